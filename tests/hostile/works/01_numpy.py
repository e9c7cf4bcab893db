#: must: numpy, pandas and matplotlib compute, read, write and draw
#: within: 40
import os
import numpy, pandas
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt
a = numpy.random.rand(300, 300)
assert numpy.allclose(a @ numpy.linalg.inv(a), numpy.eye(300), atol=1e-4)
d = pandas.DataFrame({"x": range(1000), "y": numpy.arange(1000) ** 2})
d.to_csv("d.csv", index=False)
assert pandas.read_csv("d.csv").y.sum() == d.y.sum()
plt.plot(d.x, d.y)
plt.title("a title")
plt.savefig("p.png")
assert open("p.png", "rb").read(4) == b"\x89PNG"
print("ok: numpy", numpy.__version__, "pandas", pandas.__version__)
