;; Grows its table by more elements than one may have, though not by more than its memory, and gives up when it is refused.
(module
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
  (table $t 0 funcref)
  (func (export "sandhog:plugin/worker@0.1.0#run") (param i32) (result i32)
    (if (i32.eq (table.grow $t (ref.null func) (i32.const 65537)) (i32.const -1)) (then unreachable))
    unreachable
  )
)
