package cellfs;

import java.awt.image.RenderedImage;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;

/** MIME bundles: {MIME type: text, bytes, or JSON text as Json.Raw}. */
final class Bundle {
	private static final int FORMATS_MOST = 32;

	private Bundle() {
	}

	/** All formats of a value. A failing one of Rich costs itself only; a failing toString is the cell's error. */
	static Map<String, Object> of(Object value) {
		Map<String, Object> bundle = new LinkedHashMap<>();
		if (value == null) {
			bundle.put("text/plain", "null");
			return bundle;
		}
		if (value instanceof Rich rich)
			addRich(bundle, rich);
		else if (isImage(value))
			bundle.put("image/png", Image.png(value));
		String json = Values.plain(value);
		if (json != null)
			bundle.putIfAbsent("application/json", new Json.Raw(json));
		Map<String, List<Object>> table = Values.table(value);
		if (table != null) {
			bundle.putIfAbsent("text/html", Values.html(table, ((List<?>) value).size()));
			bundle.putIfAbsent("application/vnd.cellfs.data+json", new Json.Raw(Json.write(table)));
		}
		if (!bundle.containsKey("text/plain")) {
			bundle.put("text/plain", Values.text(value));
			String literal = Values.literal(value);
			if (literal != null)
				bundle.put("text/x-repr", literal);
		}
		return bundle;
	}

	/** Data of one MIME type. */
	static Map<String, Object> of(Object data, String mime) {
		Map<String, Object> bundle = new LinkedHashMap<>();
		put(bundle, mime, data);
		if (bundle.isEmpty())
			throw new IllegalArgumentException("display: no data");
		return bundle;
	}

	private static void put(Map<String, Object> bundle, String mime, Object data) {
		if (data == null || bundle.size() == FORMATS_MOST || bundle.containsKey(mime))
			return;
		if (isImage(data) && mime.equals("image/png"))
			bundle.put(mime, Image.png(data));
		else if (data instanceof String || data instanceof byte[])
			bundle.put(mime, data instanceof String text && isJson(mime) ? new Json.Raw(checked(text)) : data);
		else if (isJson(mime))
			bundle.put(mime, new Json.Raw(Json.write(data)));
		else
			bundle.put(mime, Values.text(data));
	}

	private static boolean isJson(String mime) {
		return mime.equals("application/json") || mime.endsWith("+json");
	}

	/** A text that is JSON as one line of JSON; any other as a JSON text. */
	private static String checked(String text) {
		try {
			return Json.write(Json.read(text));
		} catch (RuntimeException e) {
			return Json.write(text);
		}
	}

	private static void addRich(Map<String, Object> bundle, Rich rich) {
		try {
			Map<String, ?> own = rich.toBundle();
			if (own != null)
				own.forEach((mime, data) -> put(bundle, mime, data));
		} catch (RuntimeException e) {
			complain("toBundle", e);
		}
		add(bundle, "text/html", "toHtml", rich::toHtml);
		add(bundle, "text/markdown", "toMarkdown", rich::toMarkdown);
		add(bundle, "image/svg+xml", "toSvg", rich::toSvg);
		add(bundle, "text/latex", "toLatex", rich::toLatex);
		add(bundle, "image/png", "toPng", rich::toPng);
		add(bundle, "application/json", "toJson", rich::toJson);
	}

	private static void add(Map<String, Object> bundle, String mime, String method, Callable<?> format) {
		try {
			put(bundle, mime, format.call());
		} catch (Exception e) {
			complain(method, e);
		}
	}

	private static void complain(String method, Exception e) {
		System.err.println(method + " failed: " + Values.clean(e.toString()));
	}

	private static boolean isImage(Object value) {
		return "java.desktop".equals(value.getClass().getModule().getName()) && Image.is(value);
	}

	/** Apart, so that java.desktop is not loaded for other values. */
	private static final class Image {
		static boolean is(Object value) {
			return value instanceof RenderedImage;
		}

		static byte[] png(Object image) {
			ByteArrayOutputStream out = new ByteArrayOutputStream();
			try {
				javax.imageio.ImageIO.setUseCache(false);
				javax.imageio.ImageIO.write((RenderedImage) image, "png", out);
			} catch (IOException e) {
				throw new UncheckedIOException(e);
			}
			return out.toByteArray();
		}
	}
}
