module sandhog

go 1.24
