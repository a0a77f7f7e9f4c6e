package main

import (
	"fmt"
	"os"
	"sort"
	"syscall"
	"time"

	kcp "github.com/xtaci/kcp-go/v5"
)

const bulkChunk = 1 << 17

func (b *bench) bulk() map[string]any {
	session := b.dial()
	buffer := make([]byte, message)
	for range warmUp / message {
		exchange(session, buffer)
	}
	chunk := make([]byte, bulkChunk)
	written, cpu, start := 0, cpuSeconds(), time.Now()
	for time.Since(start).Seconds() < b.seconds {
		n, err := session.Write(chunk)
		check(err)
		written += n
	}
	elapsed := time.Since(start).Seconds()
	result := map[string]any{"seconds": elapsed, "cpu_seconds": cpuSeconds() - cpu, "bytes": written}
	if b.role == "both" {
		result["bytes"] = b.received.Load()
	}
	return result
}

func (b *bench) echo() map[string]any {
	session := b.dial()
	buffer := make([]byte, message)
	for range warmUp / message {
		exchange(session, buffer)
	}
	trips := make([]float64, b.count)
	cpu, begin := cpuSeconds(), time.Now()
	for i := range trips {
		start := time.Now()
		exchange(session, buffer)
		trips[i] = float64(time.Since(start).Nanoseconds()) / 1e3
	}
	result := map[string]any{"seconds": time.Since(begin).Seconds(), "cpu_seconds": cpuSeconds() - cpu}
	sort.Float64s(trips)
	result["p50_us"], result["p99_us"] = trips[b.count/2], trips[b.count*99/100]
	return result
}

func (b *bench) idle() map[string]any {
	before := residentBytes()
	sessions := make([]*kcp.UDPSession, b.sessions)
	buffer := make([]byte, message)
	for i := range sessions {
		sessions[i] = b.dial()
		exchange(sessions[i], buffer)
	}
	resident := residentBytes() - before
	cpu := cpuSeconds()
	time.Sleep(time.Duration(b.seconds * float64(time.Second)))
	return map[string]any{
		"seconds": b.seconds, "cpu_seconds": cpuSeconds() - cpu,
		"sessions": b.sessions, "bytes_per_session": float64(resident) / float64(b.sessions),
	}
}

func cpuSeconds() float64 {
	var usage syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
}

func residentBytes() int64 {
	file, err := os.Open("/proc/self/statm")
	check(err)
	defer file.Close()
	var total, resident int64
	_, err = fmt.Fscan(file, &total, &resident)
	check(err)
	return resident * int64(os.Getpagesize())
}
