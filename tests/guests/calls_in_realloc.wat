;; Calls the host while the host hands it its task: from its allocator.
(module
  (import "sandhog:plugin/host@0.1.0" "cancelled" (func $cancelled (result i32)))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (drop (call $cancelled)) (i32.const 4096))
  (func (export "sandhog:plugin/worker@0.1.0#run") (param i32) (result i32)
    unreachable
  )
)
