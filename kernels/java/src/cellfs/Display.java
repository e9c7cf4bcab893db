package cellfs;

/** A rich output that was shown, and can be changed. */
public final class Display {
	private final String id;

	Display(String id) {
		this.id = id;
	}

	/** The name by which it can be updated from elsewhere. */
	public String id() {
		return id;
	}

	/** Gives it a new content. */
	public void update(Object value) {
		Cell.update(id, value);
	}

	/** Gives it a new content of this MIME type. */
	public void update(Object data, String mime) {
		Cell.update(id, data, mime);
	}
}
