import pandas as pd

co2 = pd.read_csv("co2.csv", comment="#")
co2["decade"] = co2["year"] // 10 * 10
decades = co2.groupby("decade", as_index=False)["co2_ppm"].mean().round(2)
decades.to_csv("decades.csv", index=False)
decades
