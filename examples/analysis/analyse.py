#| timeout: 2m
# A Python cell of the same context: it reads what the Bash cell left.
import matplotlib.pyplot as plt
import pandas as pd

df = pd.read_csv("data/co2.csv", index_col="year")
df["growth"] = df["co2_ppm"].diff()
print(f"{df.index[0]}: {df['co2_ppm'].iloc[0]} ppm, {df.index[-1]}: {df['co2_ppm'].iloc[-1]} ppm")

fig, (level, growth) = plt.subplots(2, 1, sharex=True, figsize=(7, 5), height_ratios=[2, 1])
level.plot(df.index, df["co2_ppm"])
level.set_ylabel("CO$_2$ (ppm)")
level.set_title("Mauna Loa, annual means")
growth.bar(df.index, df["growth"])
growth.set_ylabel("growth (ppm)")
plt.show()

df.describe()
