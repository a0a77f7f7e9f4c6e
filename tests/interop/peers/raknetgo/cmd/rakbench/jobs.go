package main

import (
	"fmt"
	"os"
	"sort"
	"syscall"
	"time"

	"github.com/sandertv/go-raknet"

	"twisted-rudp.test/raknetgo/internal/pattern"
)

func (b *bench) bulk() map[string]any {
	session := b.dial()
	warm(session)
	chunk := ofLength(b.chunk)
	sent, free := 0, b.window
	cpu, start := cpuSeconds(), time.Now()
	for time.Since(start).Seconds() < b.seconds {
		if free == 0 {
			_, err := session.ReadPacket()
			check(err)
			free = b.quarter()
		}
		_, err := session.Write(chunk)
		check(err)
		sent += len(chunk)
		free--
	}
	elapsed := time.Since(start).Seconds()
	result := map[string]any{"seconds": elapsed, "cpu_seconds": cpuSeconds() - cpu, "bytes": sent}
	if b.role == "both" {
		result["bytes"] = b.received.Load()
	}
	return result
}

func (b *bench) echo() map[string]any {
	session := b.dial()
	warm(session)
	data := ofLength(message)
	trips := make([]float64, b.count)
	cpu, begin := cpuSeconds(), time.Now()
	for i := range trips {
		start := time.Now()
		exchange(session, data)
		trips[i] = float64(time.Since(start).Nanoseconds()) / 1e3
	}
	result := map[string]any{"seconds": time.Since(begin).Seconds(), "cpu_seconds": cpuSeconds() - cpu}
	sort.Float64s(trips)
	result["p50_us"], result["p99_us"] = trips[b.count/2], trips[b.count*99/100]
	return result
}

func (b *bench) idle() map[string]any {
	before := residentBytes()
	sessions := make([]*raknet.Conn, b.sessions)
	data := ofLength(message)
	for i := range sessions {
		sessions[i] = b.dial()
		exchange(sessions[i], data)
	}
	resident := residentBytes() - before
	cpu := cpuSeconds()
	time.Sleep(time.Duration(b.seconds * float64(time.Second)))
	return map[string]any{
		"seconds": b.seconds, "cpu_seconds": cpuSeconds() - cpu,
		"sessions": b.sessions, "bytes_per_session": float64(resident) / float64(b.sessions),
	}
}

func warm(session *raknet.Conn) {
	data := ofLength(message)
	for range warmUp {
		exchange(session, data)
	}
}

func ofLength(length int) []byte {
	return append([]byte{pattern.UserID}, make([]byte, length-1)...)
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
