package cellfs;

import java.lang.reflect.Array;
import java.lang.reflect.RecordComponent;
import java.time.temporal.TemporalAccessor;
import java.util.AbstractList;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;

/** Values as text, as JSON and as tables. */
final class Values {
	static final int ROWS_MOST = 5000; // of a table
	private static final int ROWS_SHOWN = 60;
	private static final int PLAIN_MOST = 200_000; // values in one JSON text
	private static final int DEEPEST = 32;
	private static final Pattern SHELL_CLASS = Pattern.compile("REPL\\.\\$JShell\\$[0-9A-Z]+[$.]");

	private Values() {
	}

	/** What a person wants to read. */
	static String text(Object value) {
		if (value.getClass().isArray()) {
			String nested = Arrays.deepToString(new Object[] {value});
			return clean(nested.substring(1, nested.length() - 1));
		}
		return clean(String.valueOf(value.toString()));
	}

	/** The value as it is written in Java, where that differs from its text. */
	static String literal(Object value) {
		if (!(value instanceof String || value instanceof Character))
			return null;
		char quote = value instanceof String ? '"' : '\'';
		StringBuilder out = new StringBuilder().append(quote);
		value.toString().chars().forEach(c -> {
			int escape = "\b\t\n\f\r".indexOf(c);
			if (escape >= 0)
				out.append('\\').append("btnfr".charAt(escape));
			else if (c == quote || c == '\\')
				out.append('\\').append((char) c);
			else if (c < ' ' || Character.isSurrogate((char) c) && value instanceof Character)
				out.append(String.format("\\u%04x", c));
			else
				out.append((char) c);
		});
		return out.append(quote).toString();
	}

	/** Without the names of the classes that a cell's own are put into. */
	static String clean(String text) {
		return text.contains("REPL.$JShell$") ? SHELL_CLASS.matcher(text).replaceAll("") : text;
	}

	/** The items of an array of any type. */
	static List<Object> items(Object array) {
		return new AbstractList<>() {
			@Override
			public Object get(int index) {
				return Array.get(array, index);
			}

			@Override
			public int size() {
				return Array.getLength(array);
			}
		};
	}

	/** The JSON text of a value made of maps, lists, arrays and simple values alone; null of any other. */
	static String plain(Object value) {
		if (!(value instanceof Map || value instanceof Collection || value.getClass().isArray()))
			return null;
		return count(value, 0, 0) >= 0 ? Json.write(value) : null;
	}

	private static int count(Object value, int before, int depth) {
		int n = before + 1;
		if (n > PLAIN_MOST || depth > DEEPEST)
			return -1;
		if (value == null || value instanceof String || value instanceof Boolean || isNumber(value))
			return n;
		Collection<?> items;
		if (value instanceof Map<?, ?> map) {
			for (Object key : map.keySet())
				if (!(key instanceof String || key instanceof Character || isNumber(key)))
					return -1;
			items = map.values();
		} else if (value instanceof Collection<?> collection) {
			items = collection;
		} else if (value.getClass().isArray() && !(value instanceof char[])) {
			items = items(value);
		} else {
			return -1;
		}
		for (Object item : items)
			if ((n = count(item, n, depth + 1)) < 0)
				return -1;
		return n;
	}

	private static boolean isNumber(Object value) {
		return value instanceof Number && value.getClass().getName().startsWith("java.");
	}

	/** A list of records of one type, or of maps: its columns, up to ROWS_MOST rows. Null if it is none. */
	static Map<String, List<Object>> table(Object value) {
		if (!(value instanceof List<?> rows) || rows.isEmpty() || rows.get(0) == null)
			return null;
		Class<?> type = rows.get(0).getClass();
		Map<String, List<Object>> columns = new LinkedHashMap<>();
		int n = 0;
		for (Object row : rows) {
			if (n == ROWS_MOST)
				break;
			Map<?, ?> cells;
			if (row instanceof Map<?, ?> map)
				cells = map;
			else if (row != null && type.isRecord() && row.getClass() == type)
				cells = components(row);
			else
				return null;
			for (Map.Entry<?, ?> cell : cells.entrySet()) {
				List<Object> column = columns.computeIfAbsent(String.valueOf(cell.getKey()), k -> new ArrayList<>());
				while (column.size() < n)
					column.add(null);
				column.add(cell(cell.getValue()));
			}
			n++;
		}
		for (List<Object> column : columns.values())
			while (column.size() < n)
				column.add(null);
		return columns.isEmpty() ? null : columns;
	}

	private static Map<String, Object> components(Object record) {
		Map<String, Object> cells = new LinkedHashMap<>();
		for (RecordComponent component : record.getClass().getRecordComponents())
			try {
				component.getAccessor().setAccessible(true);
				cells.put(component.getName(), component.getAccessor().invoke(record));
			} catch (ReflectiveOperationException | RuntimeException e) {
				cells.put(component.getName(), null);
			}
		return cells;
	}

	private static Object cell(Object value) {
		if (value == null || value instanceof Boolean || value instanceof String || isNumber(value))
			return value;
		return value instanceof TemporalAccessor ? value.toString() : text(value);
	}

	static String html(Map<String, List<Object>> columns, int total) {
		StringBuilder out = new StringBuilder("<table><thead><tr>");
		columns.keySet().forEach(name -> out.append("<th>").append(escape(name)).append("</th>"));
		out.append("</tr></thead><tbody>");
		int rows = Math.min(total, ROWS_SHOWN);
		for (int i = 0; i < rows; i++) {
			out.append("<tr>");
			for (List<Object> column : columns.values())
				out.append("<td>").append(column.get(i) == null ? "" : escape(column.get(i).toString())).append("</td>");
			out.append("</tr>");
		}
		out.append("</tbody></table>");
		if (total > rows)
			out.append("<p>").append(rows).append(" of ").append(total).append(" rows");
		if (total > ROWS_MOST)
			out.append(", the first ").append(ROWS_MOST).append(" of them as data");
		return out.append(total > rows ? "</p>" : "").toString();
	}

	private static String escape(String text) {
		return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;");
	}
}
