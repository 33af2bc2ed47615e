;; Spins for ever where one of its own resources is dropped.
(component
  (core module $destructor (func (export "drop") (param i32) (loop (br 0))))
  (core instance $destructor (instantiate $destructor))
  (type $r (resource (rep i32) (dtor (core func $destructor "drop"))))
  (core func $new (canon resource.new $r))
  (core func $drop (canon resource.drop $r))
  (core module $main
    (import "" "new" (func $new (param i32) (result i32)))
    (import "" "drop" (func $drop (param i32)))
    (func (export "run") (result i32)
      (call $drop (call $new (i32.const 1)))
      (i32.const 0))
  )
  (core instance $main (instantiate $main
    (with "" (instance (export "new" (func $new)) (export "drop" (func $drop))))))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $cli (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $cli))
)
