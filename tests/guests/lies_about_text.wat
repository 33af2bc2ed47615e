;; Returns an artifact whose name is not UTF-8.
(module
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
  (func (export "sandhog:plugin/worker@0.1.0#run") (param i32) (result i32)
    (i32.store8 (i32.const 16) (i32.const 0))
    (i32.store (i32.const 20) (i32.const 64))
    (i32.store (i32.const 24) (i32.const 1))
    (i32.store (i32.const 64) (i32.const 128))
    (i32.store (i32.const 68) (i32.const 4))
    (i32.store (i32.const 128) (i32.const 0xffffffff))
    (i32.const 16)
  )
)
