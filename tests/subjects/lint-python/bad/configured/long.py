import os
x = "this line is longer than thirty"
