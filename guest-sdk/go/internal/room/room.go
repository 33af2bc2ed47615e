// Package room keeps memory for what adapts a module to components.
//
// Go's runtime takes all memory from the end of the module's data on for its own, and does not see that somebody else has taken a part of
// it. `sandhog pack` finds this room by its first bytes, and has the adapter use it in place of memory behind the data.
package room

// Room is as large as the adapter needs: a page for its stack, a page for its state, and what aligns them.
var room = [3 << 16]byte{
	's', 'a', 'n', 'd', 'h', 'o', 'g', ':', 'r', 'o', 'o', 'm', '-', 'f', 'o', 'r', '-', 't', 'h', 'e', '-', 'a', 'd', 'a', 'p', 't', 'e', 'r',
}

// kept is written, so that the linker does not leave the room out.
var kept *byte

func init() { kept = &room[0] }
