def bench_sum():
    sum(range(1000))
