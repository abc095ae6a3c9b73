"""The servers of bench/servers: how each is started in a folder of its own, loaded and stopped.

Each is a class with
    prepare(place)   once, before all runs, without any library preloaded: data to load, databases
    start()          until it answers
    warm()           a little of the load, so that what comes once has come
    burst()          the load; returns when it is over and what it made is dropped
    stop()
Clients run without any library preloaded."""

import glob
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

from processes import Children

HERE = os.path.dirname(os.path.abspath(__file__))
PYTHON = os.path.realpath(sys.executable)
STEP_SECONDS = 180  # no step may take longer
START_SECONDS = 60

# Where distributions keep servers that an ordinary user's PATH may not show.
SEARCHED = os.pathsep.join(
    [os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]
    + sorted(glob.glob("/usr/lib/postgresql/*/bin"))
)


class Broken(Exception):
    """A run that failed; says why."""


def program(name):
    """The path of a program, or None."""
    return shutil.which(name, path=SEARCHED)


def plain_environment():
    """For clients, and whatever prepares: no library preloaded."""
    kept = {k: v for k, v in os.environ.items() if k not in ("LD_PRELOAD", "MALLOC_CONF")}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}


def last_line(text):
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else ""


def wait_until(ready, process, what):
    end = time.monotonic() + START_SECONDS
    while not ready():
        if process.poll() is not None:
            raise Broken(f"{what} ended with {process.returncode} while starting")
        if time.monotonic() > end:
            raise Broken(f"{what} does not answer")
        time.sleep(0.05)


class Place:
    """A folder for all runs, how large the loads are, and who is running."""

    def __init__(self, folder, scale):
        self.folder = folder
        self.scale = scale  # 1: full size
        self.children = Children()

    def scaled(self, count, least=1):
        return max(least, round(count * self.scale))

    def path(self, name):
        return os.path.join(self.folder, name)


class Server:
    name = what = ""
    programs = []  # that it needs, the server's own first
    user = None  # who it runs as when we are root, because it refuses to be root's
    several = False  # processes, forked, which share pages

    def __init__(self, place, folder, environment):
        self.place = place
        self.folder = folder
        self.environment = {**environment, "LC_ALL": "C", "TZ": "UTC"}
        self.process = None

    @classmethod
    def missing(cls):
        """What is not here, in words, or nothing."""
        absent = [name for name in cls.programs if not program(name)]
        if absent:
            return ", ".join(absent)
        if os.geteuid() == 0 and cls.user:
            try:
                pwd.getpwnam(cls.user)
            except KeyError:
                return f"a user {cls.user}, since it refuses to run as root"
        return ""

    @classmethod
    def prepare(cls, place):
        pass

    @classmethod
    def as_user(cls):
        """Arguments of subprocess for what runs as its user."""
        if os.geteuid() != 0 or not cls.user:
            return {}
        entry = pwd.getpwnam(cls.user)
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}

    @classmethod
    def own(cls, path):
        if os.geteuid() == 0 and cls.user:
            entry = pwd.getpwnam(cls.user)
            os.chown(path, entry.pw_uid, entry.pw_gid)

    def path(self, name):
        return os.path.join(self.folder, name)

    def launch(self, command, **more):
        os.makedirs(self.folder, exist_ok=True)
        self.own(self.folder)
        with open(self.path("log"), "ab") as log:
            arguments = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, **more}
            self.process = self.place.children.start(
                command, cwd=self.folder, env=self.environment, **arguments, **self.as_user()
            )

    def stop(self, number=signal.SIGTERM):
        """It has to leave by itself and be content: what was measured is of no use otherwise."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            self.process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            raise Broken("it does not end") from None
        finally:
            status = self.process.poll()
            self.place.children.end(self.process)
        if status != 0:
            raise Broken(self.ended_words())

    def ended_words(self):
        status = self.process.wait(START_SECONDS)
        how = f"signal {-status}" if status < 0 else f"status {status}"
        return f"it ended with {how} {self.last_words()}".rstrip()

    def last_words(self):
        try:
            with open(self.path("log"), encoding="utf-8", errors="replace") as file:
                return last_line(file.read())
        except OSError:
            return ""


def run_client(children, command, given=None, more=None):
    """Runs a client to its end; returns what it wrote."""
    process = children.start(
        command,
        env=plain_environment(),
        stdin=subprocess.PIPE if given is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        **(more or {}),
    )
    try:
        out, _ = process.communicate(given, timeout=STEP_SECONDS)
    except subprocess.TimeoutExpired:
        raise Broken(f"{os.path.basename(command[0])} is not done after {STEP_SECONDS} s") from None
    finally:
        children.end(process)
    if process.returncode != 0:
        raise Broken(f"{os.path.basename(command[0])}: {last_line(out)}")
    return out


# ---- redis ----


class Redis(Server):
    name = "redis"
    what = "a million keys of 16 bytes to 8 KiB set, then FLUSHALL SYNC"
    programs = ["redis-server"]
    KEYS = 1000000

    @classmethod
    def prepare(cls, place):
        """The commands, ready to be sent, so that the client costs next to nothing."""
        if os.path.exists(place.path("redis-set")):
            return
        source = random.Random(1)
        filler = bytes(source.randrange(33, 127) for _ in range(20000))
        ranges = [(16, 128)] * 60 + [(128, 512)] * 30 + [(512, 2048)] * 9 + [(2048, 8192)]
        with open(place.path("redis-set"), "wb") as sets, open(
            place.path("redis-del"), "wb"
        ) as deletes:
            for number in range(place.scaled(cls.KEYS)):
                size = source.randrange(*ranges[source.randrange(100)])
                start = source.randrange(10000)
                key = b"key:%d" % number
                value = filler[start : start + size]
                sets.write(
                    b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key, size, value)
                )
                deletes.write(b"*2\r\n$3\r\nDEL\r\n$%d\r\n%b\r\n" % (len(key), key))

    def start(self):
        socket_path = self.path("socket")
        self.launch(
            [program("redis-server"), "--port", "0", "--unixsocket", socket_path]
            + ["--save", "", "--appendonly", "no", "--dir", self.folder]
        )
        wait_until(lambda: os.path.exists(socket_path), self.process, "redis-server")
        self.connection = socket.socket(socket.AF_UNIX)
        self.connection.settimeout(STEP_SECONDS)
        self.connection.connect(socket_path)

    def warm(self):
        for number in range(1, 200):
            self.ask(b"SET warm:%d %b\r\n" % (number, b"x" * number), b"+OK\r\n")
        self.ask(b"FLUSHALL SYNC\r\n", b"+OK\r\n")

    def ask(self, command, answer):
        self.connection.sendall(command)
        self.expect(len(answer))

    def expect(self, count):
        """Takes in so many bytes of answers, in which there must be no error."""
        while count > 0:
            data = self.connection.recv(1 << 16)
            if not data or b"-" in data:
                raise Broken(f"redis answered {data[:60]!r}")
            count -= len(data)

    def send_file(self, name, answer_bytes):
        """Sends commands while another thread reads the answers, each of so many bytes."""
        failures = []
        count = self.place.scaled(self.KEYS) * answer_bytes

        def read():
            try:
                self.expect(count)
            except (OSError, Broken) as reason:
                failures.append(reason)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        with open(self.place.path(name), "rb") as file:
            while not failures and (data := file.read(1 << 18)):
                self.connection.sendall(data)
        reader.join(STEP_SECONDS)
        if failures or reader.is_alive():
            raise Broken(str(failures[0]) if failures else "redis does not answer")

    def burst(self):
        self.send_file("redis-set", len("+OK\r\n"))
        self.ask(b"FLUSHALL SYNC\r\n", b"+OK\r\n")

    def stop(self):
        self.connection.close()
        super().stop()


class RedisDelete(Redis):
    name = "redis-del"
    what = "the same keys set, then deleted one by one"

    def burst(self):
        self.send_file("redis-set", len("+OK\r\n"))
        self.send_file("redis-del", len(":1\r\n"))


# ---- nginx ----

NGINX_CONFIG = """{user}
worker_processes 2;
daemon off;
pid {folder}/pid;
error_log {folder}/error.log warn;
events {{ worker_connections 2048; }}
http {{
    access_log off;
    keepalive_requests 100000;
    large_client_header_buffers 8 32k;
    client_max_body_size 8m; client_body_buffer_size 1m;
    client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
    uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://unix:{folder}/behind; proxy_buffer_size 64k;
            proxy_buffers 16 64k; proxy_busy_buffers_size 256k; proxy_max_temp_file_size 0;
        }}
    }}
    server {{
        listen unix:{folder}/behind;
        root {folder};
        error_page 405 =200 $uri;
    }}
}}
"""


class Nginx(Server):
    name = "nginx"
    what = "300 connections, headers of 27 KB and bodies of 256 KiB through a proxy"
    programs = ["nginx"]
    several = True

    def start(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        os.makedirs(self.folder, exist_ok=True)
        # A master that is root would hand its workers to a user who cannot enter our folder.
        user = "user root;" if os.geteuid() == 0 else ""
        with open(self.path("nginx.conf"), "w", encoding="ascii") as file:
            file.write(NGINX_CONFIG.format(user=user, folder=self.folder, port=self.port))
        with open(self.path("answer"), "wb") as file:
            file.write(bytes(range(256)) * 1024)
        self.launch(
            [program("nginx"), "-e", self.path("error.log"), "-p", self.folder]
            + ["-c", self.path("nginx.conf")]
        )
        wait_until(self.answers, self.process, "nginx")

    def answers(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def requests(self, count, connections):
        numbers = [str(number) for number in (self.port, connections, count)]
        run_client(self.place.children, [PYTHON, os.path.join(HERE, "http-client.py")] + numbers)

    def warm(self):
        self.requests(100, 4)

    def burst(self):
        self.requests(self.place.scaled(6000, 300), 300)

    def stop(self):
        super().stop(signal.SIGQUIT)


# ---- databases ----


def read_file(name):
    with open(os.path.join(HERE, name), encoding="utf-8") as file:
        return file.read()


class MariaDB(Server):
    name = "mariadb"
    what = "16 connections sort, group and concatenate in memory, then close"
    programs = ["mariadbd", "mariadb-install-db", "mariadb"]
    user = "nobody"
    CONNECTIONS = 16
    OPTIONS = [
        "--skip-networking",
        "--innodb-flush-log-at-trx-commit=0",
        "--innodb-buffer-pool-size=64M",
        "--innodb-log-file-size=8M",
        "--max-connections=60",
        "--character-set-server=utf8mb4",
        "--collation-server=utf8mb4_general_ci",
    ]

    @classmethod
    def prepare(cls, place):
        template = place.path("mariadb-template")
        if os.path.exists(template):
            return
        os.makedirs(template)
        cls.own(template)
        run_client(
            place.children,
            [program("mariadb-install-db"), "--no-defaults", f"--datadir={template}/data"]
            + ["--skip-test-db", "--auth-root-authentication-method=normal"],
            more={"cwd": template, **cls.as_user()},
        )
        server = cls(place, template, plain_environment())
        server.start()
        server.query("", read_file("mariadb-schema.sql"))
        server.stop()

    def start(self):
        template = self.place.path("mariadb-template")
        if self.folder != template:
            os.makedirs(self.folder)
            self.own(self.folder)
            run_client(self.place.children, ["cp", "-a", f"{template}/data", self.folder])
        self.launch(
            [program("mariadbd"), "--no-defaults", f"--datadir={self.folder}/data"]
            + [f"--socket={self.folder}/socket", f"--pid-file={self.folder}/pid"]
            + [f"--tmpdir={self.folder}"]
            + self.OPTIONS
        )
        wait_until(self.answers, self.process, "mariadbd")

    def client(self, database):
        return [program("mariadb"), "--no-defaults", "-S", self.path("socket"), "-u", "root"] + (
            ["-N", "-B", database] if database else ["-N", "-B"]
        )

    def query(self, database, text):
        return run_client(self.place.children, self.client(database), text, self.as_user())

    def answers(self):
        try:
            return self.query("", "SELECT 1;").strip() == "1"
        except Broken:
            return False

    def warm(self):
        self.query("work", "SELECT COUNT(*), SUM(LENGTH(note)) FROM sale;")

    def burst(self):
        burst_of_clients(
            self, self.place.scaled(self.CONNECTIONS, 4), "work", read_file("mariadb-burst.sql")
        )


def burst_of_clients(server, count, database, text):
    """So many at a time; all have to succeed with the same answers."""
    answers, failures = [], []

    def one():
        try:
            answers.append(server.query(database, text))
        except Broken as reason:
            failures.append(reason)

    threads = [threading.Thread(target=one, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(STEP_SECONDS)
    if failures:
        raise failures[0]
    if len(set(answers)) != 1:
        raise Broken("the clients got different answers")


class PostgreSQL(Server):
    name = "postgresql"
    what = "12 connections sort, group and join in memory, then stay, idle"
    programs = ["postgres", "initdb", "psql"]
    user = "postgres"
    several = True
    CONNECTIONS = 12

    def __init__(self, place, folder, environment):
        super().__init__(place, folder, environment)
        self.clients = []

    @classmethod
    def prepare(cls, place):
        template = place.path("pg-template")
        if os.path.exists(template):
            return
        os.makedirs(template)
        cls.own(template)
        run_client(
            place.children,
            [program("initdb"), "-D", f"{template}/data", "-A", "trust", "-E", "UTF8"]
            + ["--no-locale", "-N"],
            more={"cwd": template, **cls.as_user()},
        )
        with open(f"{template}/data/postgresql.conf", "a", encoding="ascii") as file:
            file.write("listen_addresses = ''\nfsync = off\nautovacuum = off\njit = off\n")
            file.write("max_parallel_workers_per_gather = 0\nshared_buffers = 64MB\n")
        server = cls(place, template, plain_environment())
        server.start()
        server.query(read_file("postgresql-schema.sql"))
        server.stop()

    def start(self):
        template = self.place.path("pg-template")
        if self.folder != template:
            os.makedirs(self.folder)
            self.own(self.folder)
            run_client(self.place.children, ["cp", "-a", f"{template}/data", self.folder])
        self.launch(
            [program("postgres"), "-D", f"{self.folder}/data", "-k", self.folder],
        )
        wait_until(self.answers, self.process, "postgres")

    def client(self):
        return [program("psql"), "-h", self.folder, "-d", "postgres", "-XqAt"] + [
            "-v",
            "ON_ERROR_STOP=1",
        ]

    def query(self, text):
        return run_client(self.place.children, self.client(), text, self.as_user())

    def answers(self):
        try:
            return self.query("SELECT 1;").strip() == "1"
        except Broken:
            return False

    def connect(self):
        return self.place.children.start(
            self.client(),
            env=plain_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **self.as_user(),
        )

    @staticmethod
    def answer_of(client):
        lines = []
        for line in client.stdout:
            if line == "done\n":
                return "".join(lines)
            lines.append(line)
        raise Broken(f"psql ended early: {last_line(''.join(lines))}")

    def ask_all(self, text):
        for client in self.clients:
            client.stdin.write(text + "\n\\echo done\n")
            client.stdin.flush()
        if len(set(map(self.answer_of, self.clients))) != 1:
            raise Broken("the clients got different answers")

    def warm(self):
        """The connections are there from the start: each is a process of the server."""
        self.clients = [self.connect() for _ in range(self.place.scaled(self.CONNECTIONS, 2))]
        self.ask_all("SELECT count(*), sum(length(note)) FROM sale;")

    def burst(self):
        self.ask_all(read_file("postgresql-burst.sql"))

    def stop(self):
        for client in self.clients:
            self.place.children.end(client)
        super().stop(signal.SIGINT)


# ---- interpreters ----


class Script(Server):
    """A program that takes a number by standard input, does so much, drops all, answers `done`."""

    command = []
    warm_count = burst_count = 1

    def start(self):
        self.launch(list(self.command), stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, count):
        self.process.stdin.write(b"%d\n" % count)
        self.process.stdin.flush()
        if self.process.stdout.readline() != b"done\n":
            raise Broken(self.ended_words())

    def warm(self):
        self.ask(self.warm_count)

    def burst(self):
        self.ask(self.place.scaled(self.burst_count))

    def stop(self):
        self.process.stdin.close()  # the end of its input is the end of it
        try:
            self.process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            raise Broken("it does not end") from None
        self.process.stdout.close()
        super().stop()


class Ruby(Script):
    name = "ruby"
    what = "16 threads make and drop strings of up to 8 KiB"
    programs = ["ruby"]
    command = ["ruby", os.path.join(HERE, "ruby.rb")]
    warm_count, burst_count = 5, 3000


class Python(Script):
    name = "python3"
    what = "4 threads build and drop dicts, lists and strings"
    programs = []  # the one that runs this script
    command = [PYTHON, os.path.join(HERE, "python.py")]
    warm_count, burst_count = 1, 40


class Node(Script):
    name = "node"
    what = "buffers of up to 400 KB, JSON and zlib"
    programs = ["node"]
    command = ["node", "--expose-gc", os.path.join(HERE, "node.js")]
    warm_count, burst_count = 1, 12


SERVERS = [Redis, RedisDelete, Nginx, MariaDB, PostgreSQL, Ruby, Python, Node]
