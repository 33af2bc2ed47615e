;; Four memories of twenty megabytes each: none is over the limit, all together are.
(component
  (core module $part (memory (export "memory") 320))
  (core instance $p0 (instantiate $part))
  (core instance $p1 (instantiate $part))
  (core instance $p2 (instantiate $part))
  (core instance $p3 (instantiate $part))
  (core module $main
    (func (export "run") (result i32) i32.const 0)
  )
  (core instance $main (instantiate $main))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $cli (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $cli))
)
