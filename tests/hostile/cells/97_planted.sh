#: must: files that interpreters read at their start do not change the next kernel, its driver or the daemon's facts
#: must not: keep a driver from starting; of them only Python's own user site (pip install --user) runs at all
#: after: planted
. ./attack.sh
evil='import os
open("/workspace/PLANTED", "a").write(__file__ + "\n")
'
site=$(/usr/bin/python3 -c 'import site; print(site.getusersitepackages())')
mkdir -p "$site" ~/.config ~/.ipython/profile_default/startup ~/.jupyter
for f in sitecustomize usercustomize IPython json cellfs_python os site random code inspect typing traitlets; do
	echo "$evil"'os._exit(3)' >/workspace/$f.py
done
for f in sitecustomize.py usercustomize.py json.py; do echo "$evil" >"$site/$f"; done
echo "import os; open('/workspace/PLANTED', 'a').write('$site/evil.pth\\n')" >"$site/evil.pth"
echo "$evil" >/home/user/startup.py
echo "$evil" >~/.ipython/profile_default/startup/00.py
echo "c.InteractiveShellApp.exec_lines = ['open(\"/workspace/PLANTED\", \"a\").write(\"ipython\")']" >~/.ipython/profile_default/ipython_config.py
for f in ~/.bashrc ~/.bash_profile ~/.profile ~/.bash_login ~/.bash_aliases ~/.inputrc ~/.Rprofile ~/.Renviron ~/.npmrc ~/.node_repl_history /workspace/.Rprofile /workspace/.env; do
	echo 'echo planted-$0 >>/workspace/PLANTED; exit 3' >$f
done
mkdir -p /home/user/bin /workspace/bin
for f in python3 bash sh cat; do printf '#!/bin/sh\necho %s >>/workspace/PLANTED\n' $f >/workspace/bin/$f; chmod +x /workspace/bin/$f; cp /workspace/bin/$f /workspace/$f; done
ok planted
