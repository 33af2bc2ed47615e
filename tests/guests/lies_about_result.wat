;; Returns a list that lies beyond its memory.
(module
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
  (func (export "sandhog:plugin/worker@0.1.0#run") (param i32) (result i32)
    (i32.store8 (i32.const 16) (i32.const 0))
    (i32.store (i32.const 20) (i32.const 0x7ffffff0))
    (i32.store (i32.const 24) (i32.const 9))
    (i32.const 16)
  )
)
