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
fig.savefig("co2.png", dpi=120)
plt.show()

decades = df.groupby(df.index // 10 * 10).agg(mean=("co2_ppm", "mean"), growth=("growth", "mean")).round(2)
decades.index = [f"{year}s" for year in decades.index]
with open("report.html", "w", encoding="utf-8") as f:
    f.write(f"""<!doctype html>
<meta charset="utf-8">
<title>CO2 at Mauna Loa</title>
<style>body {{ font: 16px/1.5 sans-serif; max-width: 44em; margin: 2em auto }} img {{ width: 100% }}
td, th {{ padding: .1em 1em; text-align: right }}</style>
<h1>CO<sub>2</sub> at Mauna Loa</h1>
<p>It rose from {df["co2_ppm"].iloc[0]} ppm in {df.index[0]} to {df["co2_ppm"].iloc[-1]} ppm in {df.index[-1]};
the growth of a year was the largest in {df["growth"].idxmax()}, with {df["growth"].max():.2f} ppm.</p>
<img src="co2.png" alt="the level and its growth, year by year">
<h2>Means of the decades, in ppm</h2>
{decades.to_html(border=0, na_rep="")}
""")

df.describe()
