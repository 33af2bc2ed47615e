// Package worker makes a function a sandhog worker.
package worker

import (
	"sandhog"
	"sandhog/internal/abi"
)

var handler func(*sandhog.Task) ([]sandhog.Artifact, error)

// Handle names the function that does the tasks. To be called by init: a plugin's main is never run.
func Handle(run func(*sandhog.Task) ([]sandhog.Artifact, error)) { handler = run }

//go:wasmexport sandhog:plugin/worker@0.1.0#run
func run(task uint32) uint32 { return abi.Artifacts(handler(abi.Task(task))) }
