raise RuntimeError("what every test below it needs")
