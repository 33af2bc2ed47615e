;; Calls a function by another signature than it has.
(module
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
  (type $f (func (result i32)))
  (table $t 1 funcref)
  (elem (i32.const 0) $other)
  (func $other (param i64))
  (func (export "sandhog:plugin/worker@0.1.0#run") (param i32) (result i32)
    (call_indirect $t (type $f) (i32.const 0))
  )
)
