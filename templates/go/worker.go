// Shouts: the input in capitals, with as many marks as the params say.
package main

import (
	"bytes"

	"sandhog"
	"sandhog/worker"
)

type params struct {
	Marks int `json:"marks"`
}

func init() { worker.Handle(shout) }

func main() {}

func shout(task *sandhog.Task) ([]sandhog.Artifact, error) {
	params := params{Marks: 1}
	if err := task.Params(&params); err != nil {
		return nil, err
	}
	if params.Marks < 0 || params.Marks > 1000 {
		return nil, sandhog.InvalidInput("`marks` must be from 0 to 1000")
	}
	input, err := task.Input()
	if err != nil {
		return nil, err
	}
	sandhog.Logf(sandhog.LevelInfo, "%d bytes", len(input.Content))
	text := bytes.ToUpper(bytes.TrimRight(input.Content, " \t\r\n"))
	text = append(append(text, bytes.Repeat([]byte("!"), params.Marks)...), '\n')
	return []sandhog.Artifact{{Name: "shouted.txt", MediaType: "text/plain", Content: text}}, nil
}
