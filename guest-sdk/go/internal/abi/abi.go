// Package abi reads and writes values as the component model's canonical ABI lays them out in the memory of a 32-bit module.
package abi

import (
	"math"
	"runtime/debug"
	"unsafe"

	"sandhog"
	_ "sandhog/internal/room"
)

// kept holds what the host was given or asked for: it is looked at by its address alone, which the collector does not see.
var kept [][]byte

// While the host hands values over, nothing may call it, and the collector asks for the time.
func init() { debug.SetGCPercent(-1) }

// The name is one that is called when Go's runtime is up, unlike cabi_realloc.
//
//go:wasmexport cabi_export_realloc
func realloc(old, oldSize, align, newSize uint32) uint32 {
	if newSize == 0 {
		return align
	}
	made := alloc(newSize)
	if oldSize > 0 {
		copy(bytesAt(made, newSize), bytesAt(old, min(oldSize, newSize)))
	}
	return made
}

func alloc(size uint32) uint32 {
	block := make([]uint64, (size+7)/8) // aligned for every type
	bytes := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(block))), size)
	kept = append(kept, bytes)
	return address(bytes)
}

func address(bytes []byte) uint32 { return uint32(uintptr(unsafe.Pointer(unsafe.SliceData(bytes)))) }

func at(address uint32) unsafe.Pointer {
	base := unsafe.Pointer(nil)
	return unsafe.Add(base, address)
}

func bytesAt(address, length uint32) []byte {
	if length == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(at(address)), length)
}

func u8(address uint32) uint8   { return *(*uint8)(at(address)) }
func u32(address uint32) uint32 { return *(*uint32)(at(address)) }
func u64(address uint32) uint64 { return *(*uint64)(at(address)) }

func text(address uint32) string { return string(bytesAt(u32(address), u32(address+4))) }

func list[T any](address, size uint32, read func(uint32) T) []T {
	first, count := u32(address), u32(address+4)
	values := make([]T, count)
	for index := range values {
		values[index] = read(first + uint32(index)*size)
	}
	return values
}

func optionalText(address uint32) string {
	if u8(address) == 0 {
		return ""
	}
	return text(address + 4)
}

func artifact(address uint32) sandhog.Artifact {
	return sandhog.Artifact{Name: text(address), MediaType: text(address + 8), Content: bytesAt(u32(address+16), u32(address+20))}
}

func finding(address uint32) sandhog.Finding {
	finding := sandhog.Finding{Rule: text(address), Severity: sandhog.Severity(u8(address + 8)), Message: text(address + 12)}
	if u8(address+20) != 0 {
		finding.Location = &sandhog.Location{Path: text(address + 24)}
		if u8(address+32) != 0 {
			finding.Location.Span = &sandhog.Span{
				StartLine: u32(address + 36), StartColumn: u32(address + 40), EndLine: u32(address + 44), EndColumn: u32(address + 48),
			}
		}
	}
	finding.Suggestion, finding.HelpURL = optionalText(address+52), optionalText(address+64)
	if u8(address+76) != 0 {
		finding.Fix = &sandhog.Fix{Description: text(address + 80), Edits: list(address+88, 24, edit), Safe: u8(address+96) != 0}
	}
	return finding
}

func edit(address uint32) sandhog.Edit {
	return sandhog.Edit{Start: u64(address), End: u64(address + 8), Replacement: text(address + 16)}
}

// Task reads a task.
func Task(address uint32) *sandhog.Task {
	debug.SetGCPercent(100)
	return &sandhog.Task{
		ID: text(address), Run: text(address + 8), Step: text(address + 16),
		Attempt: u32(address + 24), Revision: u32(address + 28),
		RawParams: text(address + 32),
		Inputs:    list(address+40, 24, artifact),
		Criteria:  list(address+48, 8, text),
		Feedback:  list(address+56, 100, finding),
		Previous:  list(address+64, 24, artifact),
	}
}

// Subject reads a subject.
func Subject(address uint32) *sandhog.Subject {
	file := func(address uint32) sandhog.File {
		return sandhog.File{Path: text(address), Size: u64(address + 8), MediaType: text(address + 16)}
	}
	debug.SetGCPercent(100)
	subject := &sandhog.Subject{Files: list(address, 24, file), RawParams: text(address + 120)}
	if u8(address+8) != 0 {
		subject.Task = Task(address + 12)
	}
	if u8(address+88) != 0 {
		subject.Usage = &sandhog.Usage{Fuel: u64(address + 96), PeakMemoryBytes: u64(address + 104), WallTimeNs: u64(address + 112)}
	}
	if u8(address+128) != 0 {
		unit := text(address + 132)
		subject.Unit = &unit
	}
	return subject
}

func putU8(address uint32, value uint8)   { *(*uint8)(at(address)) = value }
func putU32(address uint32, value uint32) { *(*uint32)(at(address)) = value }
func putU64(address uint32, value uint64) { *(*uint64)(at(address)) = value }

func putBytes(target uint32, bytes []byte) {
	kept = append(kept, bytes)
	putU32(target, address(bytes))
	putU32(target+4, uint32(len(bytes)))
}

func putText(target uint32, value string) { putBytes(target, []byte(value)) }

func putBool(target uint32, value bool) {
	if value {
		putU8(target, 1)
	}
}

func putList[T any](target, size uint32, values []T, put func(uint32, *T)) {
	first := alloc(max(size*uint32(len(values)), 1))
	for index := range values {
		put(first+uint32(index)*size, &values[index])
	}
	putU32(target, first)
	putU32(target+4, uint32(len(values)))
}

func putOptionalText(target uint32, value string) {
	if value != "" {
		putU8(target, 1)
		putText(target+4, value)
	}
}

func putArtifact(target uint32, artifact *sandhog.Artifact) {
	putText(target, artifact.Name)
	putText(target+8, artifact.MediaType)
	putBytes(target+16, artifact.Content)
}

func putFinding(target uint32, finding *sandhog.Finding) {
	putText(target, finding.Rule)
	putU8(target+8, uint8(finding.Severity))
	putText(target+12, finding.Message)
	if location := finding.Location; location != nil {
		putU8(target+20, 1)
		putText(target+24, location.Path)
		if span := location.Span; span != nil {
			putU8(target+32, 1)
			for index, value := range []uint32{span.StartLine, span.StartColumn, span.EndLine, span.EndColumn} {
				putU32(target+36+uint32(index)*4, value)
			}
		}
	}
	putOptionalText(target+52, finding.Suggestion)
	putOptionalText(target+64, finding.HelpURL)
	if fix := finding.Fix; fix != nil {
		putU8(target+76, 1)
		putText(target+80, fix.Description)
		putList(target+88, 24, fix.Edits, func(target uint32, edit *sandhog.Edit) {
			putU64(target, edit.Start)
			putU64(target+8, edit.End)
			putText(target+16, edit.Replacement)
		})
		putBool(target+96, fix.Safe)
	}
}

func putFailure(target uint32, err error) {
	failure := sandhog.AsFailure(err)
	putU8(target, uint8(failure.Kind))
	if failure.Kind != sandhog.KindCancelled {
		putText(target+4, failure.Text)
	}
}

// Artifacts writes what a worker answers.
func Artifacts(artifacts []sandhog.Artifact, err error) uint32 {
	result := alloc(16)
	if err != nil {
		putU8(result, 1)
		putFailure(result+4, err)
	} else {
		putList(result+4, 24, artifacts, putArtifact)
	}
	return result
}

// Verdict writes what a gate answers.
func Verdict(verdict *sandhog.Verdict, err error) uint32 {
	result := alloc(32)
	if err != nil {
		putU8(result, 1)
		putFailure(result+4, err)
		return result
	}
	putBool(result+4, verdict.Fail)
	putList(result+8, 100, verdict.Findings, putFinding)
	putList(result+16, 24, verdict.Metrics, func(target uint32, metric *sandhog.Metric) {
		putText(target, metric.Name)
		putU64(target+8, math.Float64bits(metric.Value))
		putText(target+16, metric.Unit)
	})
	putText(result+24, verdict.Summary)
	return result
}
