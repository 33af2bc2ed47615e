;; Spins for ever while the host hands it its task: in its allocator.
(module
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (loop (br 0)) unreachable)
  (func (export "sandhog:plugin/worker@0.1.0#run") (param i32) (result i32)
    unreachable
  )
)
