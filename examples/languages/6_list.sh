wc -l decades.csv
cat trend.txt summary.txt
echo
ls
