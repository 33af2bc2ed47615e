def total(count):
    result = 0
    for number in range(count):
        result += number
    return result


def bench_too_dear():
    total(200_000)


def bench_grown():
    total(100)


def bench_breaks():
    raise ValueError("no data")
