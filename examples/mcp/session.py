#!/usr/bin/python3
"""A session of an agent that has only the reference MCP file server, without the model: what it would call, and gets.

usage: session.py CONTEXTS_DIRECTORY SERVER...
    session.py ~/mnt/contexts npx -y @modelcontextprotocol/server-filesystem@2026.8.31 ~/mnt/contexts
"""

import itertools
import json
import subprocess
import sys


class Server:
    """The client's side of MCP over stdio: JSON-RPC, one message a line."""

    def __init__(self, argv, **options):
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8", **options)
        self.numbers = itertools.count(1)
        self.info = self.ask("initialize", protocolVersion="2025-06-18", capabilities={},
                             clientInfo={"name": "session.py", "version": "1"})
        self.tell("notifications/initialized")

    def tell(self, method, **more):
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", "method": method, **more}) + "\n")
        self.process.stdin.flush()

    def ask(self, method, **params):
        number = next(self.numbers)
        self.tell(method, id=number, params=params)
        for line in self.process.stdout:
            message = json.loads(line)
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(message["error"]["message"])
                return message["result"]
        raise EOFError("the server ended")

    def call(self, tool, **arguments):
        """The first content of a tool's answer."""
        answer = self.ask("tools/call", name=tool, arguments=arguments)
        if answer.get("isError"):
            raise RuntimeError(answer["content"][0]["text"])
        return answer["content"][0]

    def text(self, tool, **arguments):
        return self.call(tool, **arguments)["text"]

    def close(self):
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


STEPS = [
    ("create_directory", {"path": "tour"}),
    ("write_file", {"path": "tour/workspace/sales.csv", "content": "month,sold\nJan,4\nFeb,7\nMar,12\n"}),
    ("write_file", {"path": "tour/cells/sum.py", "content": "import csv\nrows = list(csv.DictReader(open('sales.csv')))\n"
                                                            "sum(int(r['sales']) for r in rows)\n"}),
    ("read_text_file", {"path": "tour/results/sum.py/report.md"}),
    ("edit_file", {"path": "tour/cells/sum.py", "edits": [{"oldText": "r['sales']", "newText": "r['sold']"}]}),
    ("read_text_file", {"path": "tour/results/sum.py/result.txt"}),
    ("list_directory", {"path": "tour/results/sum.py"}),
]


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    server = Server(sys.argv[2:])
    for tool, arguments in STEPS:
        shown = {k: v if len(str(v)) < 60 else str(v)[:57] + "..." for k, v in arguments.items()}
        arguments = dict(arguments, path=f"{sys.argv[1]}/{arguments['path']}")
        print(f"> {tool} {json.dumps(shown)}\n{server.text(tool, **arguments).strip()}\n", flush=True)
    server.close()


if __name__ == "__main__":
    main()
