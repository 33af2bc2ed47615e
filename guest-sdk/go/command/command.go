// Package command makes a program of its own a sandhog plugin: `import _ "sandhog/command"`, build it with GOOS=wasip1 GOARCH=wasm, and pack
// it. It reads its input from standard input, its arguments are the param `args`, and what it writes is its artifact.
package command

import _ "sandhog/internal/room"
