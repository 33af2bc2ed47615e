;; Calls the host before anybody called it: in its start function, and without end.
(module
  (import "sandhog:plugin/host@0.1.0" "cancelled" (func $cancelled (result i32)))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
  (func $start (loop (drop (call $cancelled)) (br 0)))
  (start $start)
  (func (export "sandhog:plugin/worker@0.1.0#run") (param i32) (result i32)
    unreachable
  )
)
