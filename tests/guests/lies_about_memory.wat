;; Has the host write its task where there is no memory: its allocator answers with the last address.
(module
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const -1))
  (func (export "sandhog:plugin/worker@0.1.0#run") (param i32) (result i32)
    unreachable
  )
)
