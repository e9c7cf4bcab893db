#: must: asyncio, subprocesses, sqlite, pty, own sockets (v4, v6, unix), fifos, mmap and signals work
#: within: 20
import asyncio, mmap, os, pty, signal, socket, sqlite3, subprocess, tempfile


async def serve(family, host):
    async def hello(r, w):
        w.write(await r.read(5)); await w.drain(); w.close()
    s = await asyncio.start_server(hello, host, 0, family=family)
    r, w = await asyncio.open_connection(host, s.sockets[0].getsockname()[1])
    w.write(b"hello"); await w.drain()
    assert await r.read() == b"hello"
    s.close()

loop = asyncio.new_event_loop()
loop.run_until_complete(serve(socket.AF_INET, "127.0.0.1"))
loop.run_until_complete(serve(socket.AF_INET6, "::1"))
loop.run_until_complete(serve(socket.AF_INET, "localhost"))
print("ok: asyncio on the own loopback")
db = sqlite3.connect("a.db")
db.execute("pragma journal_mode=wal")
db.execute("create table t (x)"); db.executemany("insert into t values (?)", [(i,) for i in range(1000)]); db.commit()
assert db.execute("select sum(x) from t").fetchone() == (499500,)
print("ok: sqlite", sqlite3.sqlite_version)
pid, fd = pty.fork()
if not pid:
    os.execvp("stty", ["stty", "-a"])
got = b""
try:
    while b := os.read(fd, 4096): got += b
except OSError: pass
os.waitpid(pid, 0)
assert b"speed" in got, got
print("ok: pty")
os.mkfifo("fifo")
subprocess.Popen("echo through > fifo", shell=True)
assert open("fifo").read() == "through\n"
a, b = socket.socketpair(); a.send(b"x"); assert b.recv(1) == b"x"
m = mmap.mmap(-1, 1 << 20); m[0] = 1
with tempfile.NamedTemporaryFile() as f: f.write(b"x"); f.flush(); assert os.stat(f.name).st_size == 1
hit = []
signal.signal(signal.SIGUSR1, lambda *a: hit.append(1)); os.kill(os.getpid(), signal.SIGUSR1); assert hit
assert os.path.expanduser("~") == "/home/user" and os.getcwd() == "/workspace"
import getpass, platform, time, ssl, locale, zoneinfo
assert getpass.getuser() == "user", getpass.getuser()
ssl.create_default_context()
zoneinfo.ZoneInfo("Europe/Berlin")
assert subprocess.run(["id"], capture_output=True, text=True).stdout.startswith("uid=1000(user) gid=1000(user)")
print("ok: the rest", platform.node())
