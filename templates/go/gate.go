// Rejects files with a mark that somebody meant to come back to.
package main

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"sandhog"
	"sandhog/gate"
)

type params struct {
	Word string `json:"word"`
}

func init() { gate.Handle(check) }

func main() {}

func check(subject *sandhog.Subject) (*sandhog.Verdict, error) {
	params := params{Word: "TODO"}
	if err := subject.Params(&params); err != nil {
		return nil, err
	}
	var findings []sandhog.Finding
	for _, file := range subject.Files {
		content, err := subject.Read(file.Path)
		if err != nil {
			return nil, err
		}
		for index, line := range strings.Split(string(content), "\n") {
			if at := strings.Index(line, params.Word); at >= 0 {
				column := uint32(utf8.RuneCountInString(line[:at]) + 1)
				message := fmt.Sprintf("`%s` is left", params.Word)
				findings = append(findings, sandhog.At("left-over", sandhog.Medium, message, file.Path, uint32(index+1), column))
			}
		}
	}
	return sandhog.Judge(findings), nil
}
