/* What the Java driver cannot do in Java: moving descriptors, a real chdir, stopping a thread, taking
 * System.exit. Stopping and redefining are JVMTI's "always" capabilities: to be had in a JVM that runs,
 * and free of cost until used. (Thread.stop is gone since JDK 20, the SecurityManager since 24.) */
#include <errno.h>
#include <fcntl.h>
#include <jni.h>
#include <jvmti.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { FIRST_FD = 500, SECOND_FD = 16, CHUNK = 65536 };

extern void JVM_Halt(jint code) __attribute__((weak));
extern void JVM_BeforeHalt(void) __attribute__((weak));

static jvmtiEnv *jvmti;
static jclass exit_class;
static jmethodID exit_request;
static volatile int halting;
static int wake[2] = { -1, -1 };
static volatile sig_atomic_t signals, signals_before; /* so many came; so many before the run began */

#define NATIVE(type, name) JNIEXPORT type JNICALL Java_cellfs_Native_##name

static void fail(JNIEnv *env, const char *what)
{
	jclass error = (*env)->FindClass(env, "java/lang/IllegalStateException");

	if (error)
		(*env)->ThrowNew(env, error, what);
}

static int out_of_the_way(int fd)
{
	int moved = fcntl(fd, F_DUPFD_CLOEXEC, FIRST_FD);

	return moved < 0 && errno == EINVAL ? fcntl(fd, F_DUPFD_CLOEXEC, SECOND_FD) : moved;
}

NATIVE(jint, claim)(JNIEnv *env, jclass class, jint fd)
{
	int moved = out_of_the_way(fd);

	if (moved >= 0)
		close(fd);
	return moved;
}

NATIVE(jint, copy)(JNIEnv *env, jclass class, jint fd)
{
	return out_of_the_way(fd);
}

NATIVE(void, replace)(JNIEnv *env, jclass class, jint from, jint to)
{
	dup2(from, to);
}

NATIVE(jint, read)(JNIEnv *env, jclass class, jint fd, jbyteArray into)
{
	char chunk[CHUNK];
	jsize room = (*env)->GetArrayLength(env, into);
	ssize_t n;

	do
		n = read(fd, chunk, room < CHUNK ? (size_t)room : CHUNK);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return 0;
	(*env)->SetByteArrayRegion(env, into, 0, (jsize)n, (jbyte *)chunk);
	return (jint)n;
}

static jstring message(JNIEnv *env, int err)
{
	return err ? (*env)->NewStringUTF(env, strerror(err)) : NULL;
}

static int write_all(JNIEnv *env, int fd, jbyteArray bytes, jint offset, jint length)
{
	char chunk[CHUNK];

	while (length > 0) {
		jint part = length < CHUNK ? length : CHUNK;
		(*env)->GetByteArrayRegion(env, bytes, offset, part, (jbyte *)chunk);
		if ((*env)->ExceptionCheck(env))
			return 0;
		for (jint done = 0; done < part;) {
			ssize_t n = write(fd, chunk + done, (size_t)(part - done));
			if (n < 0 && errno == EAGAIN)
				poll(&(struct pollfd){ .fd = fd, .events = POLLOUT }, 1, -1);
			else if (n < 0 && errno != EINTR)
				return errno;
			else if (n > 0)
				done += (jint)n;
		}
		offset += part;
		length -= part;
	}
	return 0;
}

NATIVE(jstring, write)(JNIEnv *env, jclass class, jint fd, jbyteArray bytes, jint offset, jint length)
{
	return message(env, write_all(env, fd, bytes, offset, length));
}

NATIVE(jboolean, readable)(JNIEnv *env, jclass class, jint fd, jint milliseconds)
{
	return poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, milliseconds) > 0;
}

static char *text_of(JNIEnv *env, jbyteArray bytes)
{
	jsize n = (*env)->GetArrayLength(env, bytes);
	char *text = calloc((size_t)n + 1, 1);

	if (text)
		(*env)->GetByteArrayRegion(env, bytes, 0, n, (jbyte *)text);
	return text;
}

NATIVE(jstring, create)(JNIEnv *env, jclass class, jbyteArray path, jbyteArray content)
{
	char *text = text_of(env, path);
	int fd = text ? open(text, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : -1;
	int err = fd < 0 ? errno : write_all(env, fd, content, 0, (*env)->GetArrayLength(env, content));

	if (fd >= 0 && close(fd) && !err)
		err = errno;
	if (fd >= 0 && err)
		unlink(text);
	free(text);
	return message(env, err);
}

NATIVE(jstring, chdir)(JNIEnv *env, jclass class, jbyteArray path)
{
	char *text = text_of(env, path);
	int err = !text ? ENOMEM : chdir(text) ? errno : 0;

	free(text);
	return message(env, err);
}

NATIVE(void, setenv)(JNIEnv *env, jclass class, jbyteArray name, jbyteArray value)
{
	char *key = text_of(env, name), *text = value ? text_of(env, value) : NULL;

	if (key && text)
		setenv(key, text, 1);
	else if (key)
		unsetenv(key);
	free(key);
	free(text);
}

NATIVE(jbyteArray, getcwd)(JNIEnv *env, jclass class)
{
	char *text = getcwd(NULL, 0);
	jsize n = text ? (jsize)strlen(text) : 0;
	jbyteArray bytes = (*env)->NewByteArray(env, n);

	if (bytes)
		(*env)->SetByteArrayRegion(env, bytes, 0, n, (jbyte *)text);
	free(text);
	return bytes;
}

static void interrupted(int number)
{
	int saved = errno;

	signals++;
	if (write(wake[1], "i", 1) < 0)
		errno = 0; /* full: it will wake up */
	errno = saved;
}

NATIVE(void, catchInterrupts)(JNIEnv *env, jclass class)
{
	struct sigaction action = { .sa_handler = interrupted, .sa_flags = SA_RESTART };

	if (wake[0] < 0) {
		int ends[2];
		if (pipe2(ends, O_CLOEXEC | O_NONBLOCK)) {
			fail(env, "pipe2");
			return;
		}
		for (int i = 0; i < 2; i++) {
			wake[i] = out_of_the_way(ends[i]);
			close(ends[i]);
		}
	}
	sigemptyset(&action.sa_mask);
	sigaction(SIGINT, &action, NULL);
	/* One that was sent before now may still wait for the thread that is to handle it. */
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	while (sigtimedwait(&set, NULL, &(struct timespec){ 0 }) > 0)
		;
	signals_before = signals;
}

NATIVE(jboolean, interrupted)(JNIEnv *env, jclass class)
{
	return signals != signals_before;
}

NATIVE(jint, await)(JNIEnv *env, jclass class, jint guard, jint milliseconds)
{
	struct pollfd fds[2] = { { .fd = wake[0], .events = POLLIN }, { .fd = guard, .events = POLLIN } };
	char bytes[64];

	if (poll(fds, 2, milliseconds) <= 0)
		return 0;
	if (fds[0].revents && read(wake[0], bytes, sizeof(bytes)) > 0)
		return 1;
	return fds[1].revents && read(guard, bytes, sizeof(bytes)) > 0 ? 2 : fds[1].revents ? -1 : 0;
}

NATIVE(void, stop)(JNIEnv *env, jclass class, jobject thread, jobject error)
{
	(*jvmti)->StopThread(jvmti, thread, error);
}

/* Not setpriority: a box allows that for the calling thread only. */
NATIVE(void, nice)(JNIEnv *env, jclass class, jint thread, jint value)
{
	struct {
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
	} attributes = { .size = sizeof(attributes), .nice = value };

	syscall(SYS_sched_setattr, thread, &attributes, 0);
}

NATIVE(void, redefine)(JNIEnv *env, jclass class, jclass type, jbyteArray bytes)
{
	jsize n = (*env)->GetArrayLength(env, bytes);
	jbyte *copy = (*env)->GetByteArrayElements(env, bytes, NULL);
	jvmtiClassDefinition definition = { type, n, (const unsigned char *)copy };

	if (!copy || (*jvmti)->RedefineClasses(jvmti, 1, &definition) != JVMTI_ERROR_NONE)
		fail(env, "RedefineClasses");
	if (copy)
		(*env)->ReleaseByteArrayElements(env, bytes, copy, JNI_ABORT);
}

/* Shutdown's natives. Runtime.halt and an orderly end come by before_halt, a redirected exit does not. */
static void JNICALL before_halt(JNIEnv *env, jclass class)
{
	halting = 1;
	if (JVM_BeforeHalt)
		JVM_BeforeHalt();
}

static void JNICALL halt0(JNIEnv *env, jclass class, jint status)
{
	if (!halting)
		(*env)->CallStaticVoidMethod(env, exit_class, exit_request, status);
	else if (JVM_Halt)
		JVM_Halt(status);
	else
		_exit(status);
}

NATIVE(void, takeExits)(JNIEnv *env, jclass class)
{
	JNINativeMethod natives[] = { { "beforeHalt", "()V", before_halt }, { "halt0", "(I)V", halt0 } };
	jclass shutdown = (*env)->FindClass(env, "java/lang/Shutdown");
	jclass local = shutdown ? (*env)->FindClass(env, "cellfs/Exit") : NULL;

	if (!local)
		return;
	exit_request = (*env)->GetStaticMethodID(env, local, "request", "(I)V");
	exit_class = (*env)->NewGlobalRef(env, local);
	if (exit_request && exit_class)
		(*env)->RegisterNatives(env, shutdown, natives, 2);
}

NATIVE(void, exit)(JNIEnv *env, jclass class, jint status)
{
	jclass shutdown = (*env)->FindClass(env, "java/lang/Shutdown");
	jmethodID method = shutdown ? (*env)->GetStaticMethodID(env, shutdown, "exit", "(I)V") : NULL;

	halting = 1;
	if (method)
		(*env)->CallStaticVoidMethod(env, shutdown, method, status);
	_exit(status);
}

NATIVE(jobject, get)(JNIEnv *env, jclass class, jobject target, jclass owner, jstring field, jstring type)
{
	const char *name = (*env)->GetStringUTFChars(env, field, NULL);
	const char *kind = (*env)->GetStringUTFChars(env, type, NULL);
	jobject value = NULL;

	if (name && kind && target) {
		jfieldID id = (*env)->GetFieldID(env, owner, name, kind);
		value = id ? (*env)->GetObjectField(env, target, id) : NULL;
	} else if (name && kind) {
		jfieldID id = (*env)->GetStaticFieldID(env, owner, name, kind);
		value = id ? (*env)->GetStaticObjectField(env, owner, id) : NULL;
	}
	(*env)->ReleaseStringUTFChars(env, field, name);
	(*env)->ReleaseStringUTFChars(env, type, kind);
	return value;
}

NATIVE(void, put)(JNIEnv *env, jclass class, jobject target, jclass owner, jstring field, jstring type,
		  jobject value)
{
	const char *name = (*env)->GetStringUTFChars(env, field, NULL);
	const char *kind = (*env)->GetStringUTFChars(env, type, NULL);
	jfieldID id = name && kind ? (*env)->GetFieldID(env, owner, name, kind) : NULL;

	if (id && *kind == 'Z')
		(*env)->SetBooleanField(env, target, id, value != NULL);
	else if (id)
		(*env)->SetObjectField(env, target, id, value);
	(*env)->ReleaseStringUTFChars(env, field, name);
	(*env)->ReleaseStringUTFChars(env, type, kind);
}

JNIEXPORT jint JNICALL JNI_OnLoad(JavaVM *vm, void *reserved)
{
	jvmtiCapabilities wanted = { .can_signal_thread = 1, .can_redefine_classes = 1, .can_redefine_any_class = 1 };

	if ((*vm)->GetEnv(vm, (void **)&jvmti, JVMTI_VERSION_1_2) != JNI_OK ||
	    (*jvmti)->AddCapabilities(jvmti, &wanted) != JVMTI_ERROR_NONE)
		return JNI_ERR;
	return JNI_VERSION_1_8;
}
