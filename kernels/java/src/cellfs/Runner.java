package cellfs;

import java.util.ArrayDeque;
import java.util.concurrent.Callable;

/**
 * Runs the user's code, in a thread of its own, and ends it when it is asked to.
 *
 * That thread does nothing but the user's code, so a Stop can be thrown in it at any point: the compiler, the
 * wire and the state of the driver belong to the driver's thread, which waits here and does what the user's
 * threads ask of it.
 */
final class Runner {
	private static final int PATIENCE = 200; // milliseconds from Thread.interrupt to the first Stop
	private static final int AGAIN = 100;

	private final Object lock = new Object();
	private final ArrayDeque<Request> requests = new ArrayDeque<>();
	private final int guard;
	private ClassLoader loader;
	private Worker worker;
	private Task task;
	private boolean armed;
	private Stop ending; // why the run is to end
	private long next; // when to throw it
	private boolean interrupted;

	/** Something that only the driver's thread may do. */
	private static final class Request {
		final Runnable body;
		boolean done;
		RuntimeException failure;

		Request(Runnable body) {
			this.body = body;
		}
	}

	private static final class Task {
		final Callable<?> body;
		Object value;
		Throwable failure;
		boolean done, abandoned;

		Task(Callable<?> body) {
			this.body = body;
		}
	}

	private final class Worker extends Thread {
		private boolean stopped; // it may yet be hit by a Stop

		Worker() {
			super(null, null, "main", 0);
			setContextClassLoader(loader);
		}

		@Override
		public void run() {
			try {
				work();
			} catch (Stop late) {
				// It came after what it was for.
			}
		}

		private void work() {
			while (true) {
				Task mine;
				synchronized (lock) {
					while (worker == this && (task == null || task.done))
						waitFor(0);
					if (worker != this)
						return;
					mine = task;
				}
				Object value = null;
				Throwable failure = null;
				try {
					value = mine.body.call();
				} catch (Throwable thrown) {
					failure = thrown;
				}
				synchronized (lock) {
					mine.value = value;
					mine.failure = failure;
					mine.done = true;
					lock.notifyAll();
				}
				Thread.interrupted();
			}
		}
	}

	Runner(int guard) {
		this.guard = guard;
		Thread watch = new Thread(null, this::watch, "interrupts");
		watch.setDaemon(true);
		Native.catchInterrupts();
		watch.start();
	}

	void use(ClassLoader loader) {
		this.loader = loader;
	}

	/** From here on an interrupt is for this run. */
	void arm() {
		synchronized (lock) {
			Native.catchInterrupts();
			armed = true;
			interrupted = false;
			ending = null;
		}
	}

	/** From here on an interrupt is for nobody. The rest of what was asked for is done. */
	void disarm() {
		synchronized (lock) {
			armed = false;
			ending = null;
		}
		while (serve())
			;
	}

	/** The run was told to end, by an interrupt, of which the thread that waits for it need not have heard yet. */
	boolean interrupted() {
		synchronized (lock) {
			return interrupted || armed && Native.interrupted();
		}
	}

	/** An exit in another thread than the run's own: what the run is to end with, or null. */
	Exit exited() {
		synchronized (lock) {
			return ending instanceof Exit exit ? exit : null;
		}
	}

	/** Runs the user's code and waits for its end; throws what it throws. */
	<T> T call(Callable<T> body) throws Throwable {
		Task mine = new Task(body);
		synchronized (lock) {
			if (ending != null)
				throw ending;
			if (worker == null || !worker.isAlive()) {
				worker = new Worker();
				worker.start();
			}
			task = mine;
			lock.notifyAll();
		}
		while (true) {
			serve();
			synchronized (lock) {
				if (requests.isEmpty() && !mine.done && !mine.abandoned && worker.isAlive())
					waitFor(worker.stopped ? 10 : 0);
				if (mine.done || requests.isEmpty() && (mine.abandoned || !worker.isAlive())) {
					task = null;
					if (worker.stopped)
						worker = null;
					lock.notifyAll();
					break;
				}
			}
		}
		while (serve())
			;
		if (mine.abandoned)
			Driver.instance.streams.complain("cellfs: the cell waits in native code and cannot be stopped: "
					+ "its thread goes on in the background");
		if (!mine.done)
			throw ending != null ? ending : new Stop("its thread has ended");
		if (mine.failure != null)
			throw mine.failure;
		@SuppressWarnings("unchecked")
		T value = (T) mine.value;
		return value;
	}

	/** Has the driver's thread do something, and waits for it. False if no run is there to do it for. */
	boolean ask(Runnable body) {
		Request request = new Request(body);
		boolean interrupt = false;
		synchronized (lock) {
			if (!armed)
				return false;
			requests.add(request);
			lock.notifyAll();
			while (!request.done)
				interrupt |= waitFor(0);
		}
		if (interrupt)
			Thread.currentThread().interrupt();
		if (request.failure != null)
			throw request.failure;
		return true;
	}

	/** Does one thing that was asked for. False if there is none. */
	private boolean serve() {
		Request request;
		synchronized (lock) {
			request = requests.poll();
		}
		if (request == null)
			return false;
		try {
			request.body.run();
		} catch (RuntimeException failure) {
			request.failure = failure;
		}
		synchronized (lock) {
			request.done = true;
			lock.notifyAll();
		}
		return true;
	}

	/** Waits for news; true if Thread.interrupt came instead. */
	private boolean waitFor(int milliseconds) {
		try {
			lock.wait(milliseconds);
			return false;
		} catch (InterruptedException e) {
			return true;
		}
	}

	/** An exit was asked for: it ends the run, whichever thread asked. */
	void exit(Exit exit) {
		synchronized (lock) {
			if (!armed || Thread.currentThread() == worker)
				return;
			if (ending == null)
				end(exit, 0);
		}
	}

	private void end(Stop stop, int delay) {
		ending = stop;
		next = System.nanoTime() + delay * 1_000_000L;
		lock.notifyAll();
	}

	/** The thread that waits for SIGINT and the guard. */
	private void watch() {
		int from = guard;
		while (true) {
			int wait = -1;
			synchronized (lock) {
				if (ending != null && task != null)
					wait = Math.max(1, (int) ((next - System.nanoTime()) / 1_000_000));
				else if (ending != null)
					wait = AGAIN;
			}
			int news = Native.await(from, wait);
			if (news < 0)
				from = -1;
			synchronized (lock) {
				if (armed && (news == Native.GUARD || news == Native.INTERRUPT && Native.interrupted()))
					interrupt(news == Native.GUARD);
				if (ending != null && task != null && System.nanoTime() >= next)
					stop();
			}
		}
	}

	/** By SIGINT, or, when all that was of no use, by the guard: then the run ends without its thread. */
	private void interrupt(boolean last) {
		interrupted = true;
		if (ending == null) {
			Stop stop = new Stop("interrupted");
			if (worker != null)
				stop.setStackTrace(worker.getStackTrace());
			end(stop, PATIENCE);
		}
		if (last && task != null && !task.done) {
			task.abandoned = true;
			lock.notifyAll();
		}
		if (task != null && worker != null)
			worker.interrupt();
	}

	private void stop() {
		if (task.done || worker == null)
			return;
		worker.stopped = true;
		next = System.nanoTime() + AGAIN * 1_000_000L;
		Native.stop(worker, ending);
		lock.notifyAll();
	}
}
