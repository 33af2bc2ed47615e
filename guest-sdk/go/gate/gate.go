// Package gate makes a function a sandhog gate.
package gate

import (
	"sandhog"
	"sandhog/internal/abi"
)

var handler func(*sandhog.Subject) (*sandhog.Verdict, error)

// Handle names the function that judges. To be called by init: a plugin's main is never run.
func Handle(check func(*sandhog.Subject) (*sandhog.Verdict, error)) { handler = check }

//go:wasmexport sandhog:plugin/gate@0.1.0#check
func check(subject uint32) uint32 { return abi.Verdict(handler(abi.Subject(subject))) }
