#| timeout: 1m
# A Bash cell. Its working directory is the workspace of the context, where the file was uploaded.
mkdir -p data
grep -v '^#' upload/co2.csv > data/co2.csv

echo "header: $(head -n 1 data/co2.csv)"
echo "rows:   $(tail -n +2 data/co2.csv | wc -l)"
echo "years:  $(sed -n '2s/,.*//p' data/co2.csv) to $(sed -n '$s/,.*//p' data/co2.csv)"

bad=$(tail -n +2 data/co2.csv | grep -Evc '^[0-9]{4},[0-9]+\.[0-9]{2}$')
if [ "$bad" -ne 0 ]; then
	echo "$bad rows are not of the form year,value" >&2
	false
fi
