//| timeout: 30
import java.nio.file.*;

double before = 0;
for (String line : Files.readAllLines(Path.of("decades.csv")).subList(1, 4)) {
    double now = Double.parseDouble(line.split(",")[1]);
    if (now < before) throw new IllegalStateException("it fell: " + line);
    before = now;
}
"rises by " + Files.readString(Path.of("trend.txt")) + " ppm a year"
