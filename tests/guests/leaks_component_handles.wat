;; Makes resources of its own without end: handles that only the component's own table counts.
(component
  (type $r (resource (rep i32)))
  (core func $new (canon resource.new $r))
  (core module $main
    (import "" "new" (func $new (param i32) (result i32)))
    (func (export "run") (result i32)
      (loop (drop (call $new (i32.const 1))) (br 0))
      unreachable)
  )
  (core instance $main (instantiate $main (with "" (instance (export "new" (func $new))))))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $cli (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $cli))
)
