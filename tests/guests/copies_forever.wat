;; Copies all of its memory, without end: much work in each instruction.
(module
  (memory (export "memory") 512)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
  (func (export "sandhog:plugin/worker@0.1.0#run") (param i32) (result i32)
    (loop
      (memory.copy (i32.const 0) (i32.const 1) (i32.const 33554431))
      (br 0))
    unreachable
  )
)
