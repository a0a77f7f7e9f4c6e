package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	kcp "github.com/xtaci/kcp-go/v5"
)

const (
	bulkChunk = 1 << 17
	// settling is what timed messages may take after the last was sent.
	settling = 2 * time.Second
)

// job of a client; returns what only the client knows.
type job func() map[string]any

func (b *bench) bulk() map[string]any {
	sessions := b.dialAll(b.warmUp)
	chunk := make([]byte, bulkChunk)
	cpu, end := cpuSeconds(), time.Now().Add(b.duration())
	var over sync.WaitGroup
	for _, session := range sessions {
		session.SetWriteDeadline(end)
		over.Add(1)
		go func() {
			defer over.Done()
			for {
				if _, err := session.Write(chunk); err != nil {
					return
				}
			}
		}()
	}
	over.Wait()
	return map[string]any{"cpu_seconds": cpuSeconds() - cpu}
}

func (b *bench) echo() map[string]any {
	session := b.dialAll(b.warmUp)[0]
	buffer := make([]byte, message)
	trips := make([]float64, b.count)
	cpu, begin := cpuSeconds(), time.Now()
	for i := range trips {
		start := time.Now()
		exchange(session, buffer)
		trips[i] = float64(time.Since(start).Nanoseconds()) / 1e3
	}
	result := map[string]any{"seconds": time.Since(begin).Seconds(), "cpu_seconds": cpuSeconds() - cpu}
	quantiles(trips, result)
	return result
}

func (b *bench) idle() map[string]any {
	before := residentBytes()
	sessions := b.dialAll(1)
	resident := residentBytes() - before
	cpu := cpuSeconds()
	time.Sleep(b.duration())
	return map[string]any{
		"seconds": b.seconds, "cpu_seconds": cpuSeconds() - cpu,
		"bytes_per_session": float64(resident) / float64(len(sessions)),
	}
}

func (b *bench) messages() map[string]any {
	sessions := b.dialAll(b.warmUp)
	step := b.interval() / time.Duration(len(sessions))
	cpu, start := cpuSeconds(), time.Now()
	var over sync.WaitGroup
	for i, session := range sessions {
		over.Add(1)
		go func() {
			defer over.Done()
			time.Sleep(time.Duration(i) * step)
			b.tick(session)
		}()
	}
	over.Wait()
	result := map[string]any{"seconds": time.Since(start).Seconds(), "cpu_seconds": cpuSeconds() - cpu}
	time.Sleep(settling)
	return result
}

// tick sends messages that tell when they were written, one each interval.
func (b *bench) tick(session *kcp.UDPSession) {
	ticker := time.NewTicker(b.interval())
	defer ticker.Stop()
	buffer := make([]byte, b.size)
	for range b.messagesOf() {
		binary.BigEndian.PutUint64(buffer, uint64(time.Now().UnixNano()))
		_, err := session.Write(buffer)
		check(err)
		<-ticker.C
	}
}

func (b *bench) duration() time.Duration {
	return time.Duration(b.seconds * float64(time.Second))
}

func (b *bench) interval() time.Duration {
	return time.Duration(b.every * float64(time.Millisecond))
}

// messagesOf is how many messages a session sends that are timed.
func (b *bench) messagesOf() int {
	return int(b.seconds * 1000 / b.every)
}

// dialAll makes sessions that have exchanged so many messages each.
func (b *bench) dialAll(messages int) []*kcp.UDPSession {
	sessions := make([]*kcp.UDPSession, b.sessions)
	buffer := make([]byte, message)
	for i := range sessions {
		sessions[i] = b.dial()
		for range messages {
			exchange(sessions[i], buffer)
		}
	}
	return sessions
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
