package cellfs;

import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.ArrayList;
import java.util.List;

/** JSON as the protocol needs it: strict, without spaces; what has no JSON form becomes null or text. */
final class Json {
	private static final int DEEPEST = 64;
	private static final char[] HEX = "0123456789abcdef".toCharArray();

	private Json() {
	}

	/** JSON text that is put into an object as it is. */
	record Raw(String text) {
	}

	static String write(Object value) {
		StringBuilder out = new StringBuilder();
		write(out, value, 0);
		return out.toString();
	}

	/** An object of keys and values in turn; a pair whose value is null is left out. */
	static String object(Object... pairs) {
		StringBuilder out = new StringBuilder("{");
		for (int i = 0; i < pairs.length; i += 2) {
			if (pairs[i + 1] == null)
				continue;
			if (out.length() > 1)
				out.append(',');
			quote(out, (String) pairs[i]);
			out.append(':');
			write(out, pairs[i + 1], 0);
		}
		return out.append('}').toString();
	}

	private static void write(StringBuilder out, Object value, int depth) {
		if (depth > DEEPEST)
			throw new IllegalArgumentException("nested too deeply for JSON");
		if (value == null || value instanceof Boolean)
			out.append(value);
		else if (value instanceof Raw raw)
			out.append(raw.text());
		else if (value instanceof Double || value instanceof Float)
			out.append(Double.isFinite(((Number) value).doubleValue()) ? value.toString() : "null");
		else if (value instanceof Byte || value instanceof Short || value instanceof Integer || value instanceof Long
				|| value instanceof java.math.BigInteger || value instanceof java.math.BigDecimal)
			out.append(value);
		else if (value instanceof Map<?, ?> map)
			writeMap(out, map, depth);
		else if (value instanceof Collection<?> items)
			writeItems(out, items, depth);
		else if (value.getClass().isArray())
			writeItems(out, Values.items(value), depth);
		else
			quote(out, value.toString());
	}

	private static void writeMap(StringBuilder out, Map<?, ?> map, int depth) {
		char before = '{';
		for (Map.Entry<?, ?> entry : map.entrySet()) {
			out.append(before);
			quote(out, String.valueOf(entry.getKey()));
			out.append(':');
			write(out, entry.getValue(), depth + 1);
			before = ',';
		}
		out.append(before == '{' ? "{}" : "}");
	}

	private static void writeItems(StringBuilder out, Collection<?> items, int depth) {
		char before = '[';
		for (Object item : items) {
			out.append(before);
			write(out, item, depth + 1);
			before = ',';
		}
		out.append(before == '[' ? "[]" : "]");
	}

	static void quote(StringBuilder out, String text) {
		out.append('"');
		for (int i = 0; i < text.length(); i++) {
			char c = text.charAt(i);
			if (c == '"' || c == '\\')
				out.append('\\').append(c);
			else if (c == '\n')
				out.append("\\n");
			else if (c < ' ')
				out.append("\\u00").append(HEX[c >> 4]).append(HEX[c & 15]);
			else if (Character.isSurrogate(c) && !paired(text, i))
				out.append('\ufffd');
			else
				out.append(c);
		}
		out.append('"');
	}

	private static boolean paired(String text, int i) {
		return Character.isHighSurrogate(text.charAt(i))
				? i + 1 < text.length() && Character.isLowSurrogate(text.charAt(i + 1))
				: i > 0 && Character.isHighSurrogate(text.charAt(i - 1));
	}

	/** The value of a JSON text: Map, List, String, Long, Double, Boolean or null. */
	static Object read(String text) {
		return new Reader(text).value();
	}

	private static final class Reader {
		private final String text;
		private int at;

		Reader(String text) {
			this.text = text;
		}

		Object value() {
			char c = next();
			if (c == '{')
				return map();
			if (c == '[')
				return list();
			if (c == '"')
				return string();
			int start = at - 1;
			while (at < text.length() && ",]} \t\r\n".indexOf(text.charAt(at)) < 0)
				at++;
			String word = text.substring(start, at);
			return switch (word) {
			case "null" -> null;
			case "true" -> true;
			case "false" -> false;
			default -> number(word);
			};
		}

		private static Object number(String word) {
			try {
				return Long.valueOf(word);
			} catch (NumberFormatException e) {
				return Double.valueOf(word);
			}
		}

		private Map<String, Object> map() {
			Map<String, Object> map = new LinkedHashMap<>();
			for (char c = next(); c != '}'; c = next()) {
				if (c == ',')
					continue;
				String key = string();
				next(); // the colon
				map.put(key, value());
			}
			return map;
		}

		private List<Object> list() {
			List<Object> list = new ArrayList<>();
			for (char c = next(); c != ']'; c = next()) {
				if (c != ',')
					at--;
				list.add(value());
			}
			return list;
		}

		private String string() {
			StringBuilder out = new StringBuilder();
			for (char c = text.charAt(at++); c != '"'; c = text.charAt(at++)) {
				if (c != '\\') {
					out.append(c);
					continue;
				}
				c = text.charAt(at++);
				switch (c) {
				case 'b' -> out.append('\b');
				case 'f' -> out.append('\f');
				case 'n' -> out.append('\n');
				case 'r' -> out.append('\r');
				case 't' -> out.append('\t');
				case 'u' -> {
					out.append((char) Integer.parseInt(text.substring(at, at + 4), 16));
					at += 4;
				}
				default -> out.append(c);
				}
			}
			return out.toString();
		}

		private char next() {
			while (Character.isWhitespace(text.charAt(at)))
				at++;
			return text.charAt(at++);
		}
	}
}
