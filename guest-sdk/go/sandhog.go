// Package sandhog is for writing sandhog plugins in Go: one function, handed to the package worker or gate.
//
//	package main
//
//	import (
//		"sandhog"
//		"sandhog/worker"
//	)
//
//	func init() { worker.Handle(run) }
//
//	func main() {}
//
//	func run(task *sandhog.Task) ([]sandhog.Artifact, error) {
//		input, err := task.Input()
//		if err != nil {
//			return nil, err
//		}
//		return []sandhog.Artifact{{Name: "copy.txt", MediaType: "text/plain", Content: input.Content}}, nil
//	}
//
// Build: GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared; then `sandhog pack` makes a plugin of the module.
//
// An error of [InvalidInput], [Transient] or [ErrCancelled] says what it is; any other is permanent. A panic is the failure `trapped`. What
// goes to standard error, as the package log writes it, is in the attempt's log.
package sandhog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

// Artifact is a named piece of content: what a task is given, and what it makes.
type Artifact struct {
	// Name is a relative path with "/" between its parts.
	Name string
	// MediaType is an IANA media type; empty means application/octet-stream.
	MediaType string
	Content   []byte
}

// Severity says how much a finding matters, in rising order.
type Severity uint8

// The severities.
const (
	Info Severity = iota
	Low
	Medium
	High
	Critical
)

// Span is a place in a text: counted from 1, columns in Unicode scalar values; the end column is behind the last character.
type Span struct {
	StartLine, StartColumn, EndLine, EndColumn uint32
}

// Location is where a finding is; without a span the whole file is meant.
type Location struct {
	Path string
	Span *Span
}

// Edit replaces the bytes from Start up to, not including, End.
type Edit struct {
	Start, End  uint64
	Replacement string
}

// Fix is a mend that a program can make: all its edits, or none.
type Fix struct {
	Description string
	Edits       []Edit
	// Safe says that it keeps what the program means.
	Safe bool
}

// Finding is one thing that a gate has to say about what it judged.
type Finding struct {
	// Rule is the rule's own stable name.
	Rule     string
	Severity Severity
	Message  string
	Location *Location
	// Suggestion and HelpURL are absent where they are empty.
	Suggestion, HelpURL string
	Fix                 *Fix
}

// At is a finding at a line and column of a file; line 0 means the whole file.
func At(rule string, severity Severity, message, path string, line, column uint32) Finding {
	location := &Location{Path: path}
	if line > 0 {
		location.Span = &Span{line, column, line, column}
	}
	return Finding{Rule: rule, Severity: severity, Message: message, Location: location}
}

// Task is what a worker is asked to do.
type Task struct {
	// ID is the same over all attempts and revisions: the key for effects. Empty for a deterministic plugin, as Run is.
	ID, Run, Step string
	// Attempt counts tries after failures, from 1; Revision counts rounds after rejections, from 0.
	Attempt, Revision uint32
	// RawParams is a JSON object.
	RawParams string
	Inputs    []Artifact
	// Criteria are what the work will be judged by, one line a gate.
	Criteria []string
	// Feedback is what the gates said about Previous.
	Feedback []Finding
	Previous []Artifact
}

// Params reads the params into a struct; what does not fit, unknown names included, is an [InvalidInput].
func (task *Task) Params(into any) error { return params(task.RawParams, into) }

// Input is the one input of a task that has exactly one, as every task of a foreach step has.
func (task *Task) Input() (*Artifact, error) {
	if len(task.Inputs) != 1 {
		return nil, InvalidInput("expected one input, found %d", len(task.Inputs))
	}
	return &task.Inputs[0], nil
}

// File is one file of a subject.
type File struct {
	Path      string
	Size      uint64
	MediaType string
}

// Usage is what an attempt used.
type Usage struct {
	Fuel, PeakMemoryBytes, WallTimeNs uint64
}

// Subject is what a gate is asked to judge.
type Subject struct {
	// Files are sorted by path.
	Files []File
	// Task is the one whose artifacts are judged; nil when a tree is.
	Task *Task
	// Usage is what the judged attempt used, where the workflow asks for it.
	Usage *Usage
	// RawParams is a JSON object.
	RawParams string
	// Unit is the one to judge, for a gate that has units.
	Unit *string
}

// Params reads the params into a struct; what does not fit, unknown names included, is an [InvalidInput].
func (subject *Subject) Params(into any) error { return params(subject.RawParams, into) }

// Read reads one file of the subject.
func (subject *Subject) Read(path string) ([]byte, error) { return os.ReadFile("/subject/" + path) }

func params(text string, into any) error {
	decoder := json.NewDecoder(bytes.NewReader([]byte(text)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return InvalidInput("params: %v", err)
	}
	return nil
}

// Metric is a figure that goes with a verdict.
type Metric struct {
	Name  string
	Value float64
	Unit  string
}

// Verdict is what a gate says.
type Verdict struct {
	Fail     bool
	Findings []Finding
	Metrics  []Metric
	Summary  string
}

// Judge is a verdict that fails where a finding is of medium severity or more.
func Judge(findings []Finding) *Verdict {
	verdict := &Verdict{Findings: findings, Summary: fmt.Sprintf("%d findings", len(findings))}
	for _, finding := range findings {
		verdict.Fail = verdict.Fail || finding.Severity >= Medium
	}
	return verdict
}

// Kind says of a [Failure] whether trying again helps.
type Kind uint8

// The kinds of failures.
const (
	KindInvalidInput Kind = iota
	KindTransient
	KindPermanent
	KindCancelled
)

// Failure is why a call gave no answer.
type Failure struct {
	Kind Kind
	Text string
}

func (failure *Failure) Error() string { return failure.Text }

// InvalidInput says that the params or inputs are wrong. Never retried.
func InvalidInput(format string, arguments ...any) error {
	return &Failure{KindInvalidInput, fmt.Sprintf(format, arguments...)}
}

// Transient says that it may work the next time.
func Transient(format string, arguments ...any) error {
	return &Failure{KindTransient, fmt.Sprintf(format, arguments...)}
}

// ErrCancelled says that the host asked for it, see [Cancelled].
var ErrCancelled error = &Failure{Kind: KindCancelled, Text: "cancelled"}

// AsFailure is the failure that an error is: a permanent one where it says nothing else.
func AsFailure(err error) *Failure {
	var failure *Failure
	if errors.As(err, &failure) {
		return failure
	}
	return &Failure{KindPermanent, err.Error()}
}
