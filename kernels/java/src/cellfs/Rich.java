package cellfs;

import java.util.Map;

/** What a value can implement to be shown as more than text. A format that it does not have is null. */
public interface Rich {
	default String toHtml() {
		return null;
	}

	default String toMarkdown() {
		return null;
	}

	default String toSvg() {
		return null;
	}

	default String toLatex() {
		return null;
	}

	default byte[] toPng() {
		return null;
	}

	/** A value of maps, lists, texts and numbers. */
	default Object toJson() {
		return null;
	}

	/** Other formats, by MIME type: texts, bytes, or what JSON can hold. */
	default Map<String, ?> toBundle() {
		return Map.of();
	}
}
