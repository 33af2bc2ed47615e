package sandhog

import (
	"fmt"
	"unsafe"
)

// Level is the importance of a line of the log.
type Level int32

// The levels, in falling order of importance.
const (
	LevelError Level = iota
	LevelWarn
	LevelInfo
	LevelDebug
	LevelTrace
)

//go:wasmimport sandhog:plugin/host@0.1.0 log
func hostLog(level int32, at unsafe.Pointer, length uint32)

//go:wasmimport sandhog:plugin/host@0.1.0 progress
func hostProgress(fraction float64, at unsafe.Pointer, length uint32)

//go:wasmimport sandhog:plugin/host@0.1.0 fuel-used
func hostFuelUsed() uint64

//go:wasmimport sandhog:plugin/host@0.1.0 cancelled
func hostCancelled() uint32

// Logf adds a line to the log of this attempt.
func Logf(level Level, format string, arguments ...any) {
	text := fmt.Sprintf(format, arguments...)
	hostLog(int32(level), unsafe.Pointer(unsafe.StringData(text)), uint32(len(text)))
}

// Progress says how far the task has come, from 0 to 1.
func Progress(fraction float64, note string) {
	hostProgress(fraction, unsafe.Pointer(unsafe.StringData(note)), uint32(len(note)))
}

// FuelUsed is the fuel that this attempt has used so far.
func FuelUsed() uint64 { return hostFuelUsed() }

// Cancelled says whether the task has been cancelled: return [ErrCancelled] then.
func Cancelled() bool { return hostCancelled() != 0 }
