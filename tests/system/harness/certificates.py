"""Certificates made on the spot by openssl(1): an authority, what it issues, and what it revokes."""
import datetime
import os
import subprocess

_CONFIGURATION = """
[ca]
default_ca = it
[it]
dir = .
database = index.txt
serial = serial
crlnumber = crlnumber
new_certs_dir = .
certificate = ca.pem
private_key = ca.key
default_md = sha256
default_crl_days = 2
policy = any
copy_extensions = copy
[any]
commonName = supplied
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical,CA:TRUE
"""
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
_BEFORE = "20200101000000Z"
LOCAL = ("DNS:localhost", "IP:127.0.0.1", "IP:::1")


def _openssl(directory, *arguments):
    done = subprocess.run(["openssl", *arguments], cwd=directory, capture_output=True, text=True)
    assert done.returncode == 0, f"openssl {arguments}:\n{done.stderr}"


def self_signed(directory, name, host="IP:127.0.0.1"):
    """(certificate, key) as files: it signs itself, so it is also what a client trusts."""
    certificate, key = f"{directory}/{name}.crt", f"{directory}/{name}.key"
    _openssl(directory, "req", "-x509", *_KEY, "-subj", f"/CN={name}", "-addext", f"subjectAltName={host}",
             "-days", "2", "-keyout", key, "-out", certificate)
    return certificate, key


class Identity:
    """The paths .certificate and .key."""

    def __init__(self, certificate, key):
        self.certificate, self.key = certificate, key


class Authority:
    """Its own certificate is at .certificate; directory is made."""

    def __init__(self, directory, name="Test CA"):
        self.directory = str(directory)
        self._issued = 0
        os.makedirs(self.directory)
        for file, content in (("openssl.cnf", _CONFIGURATION), ("index.txt", ""), ("serial", "1000\n"),
                              ("index.txt.attr", "unique_subject = no\n"), ("crlnumber", "01\n")):
            with open(self._path(file), "w") as out:
                out.write(content)
        _openssl(self.directory, "req", "-x509", *_KEY, "-config", "openssl.cnf", "-extensions", "authority",
                 "-days", "2", "-subj", f"/CN={name}", "-keyout", "ca.key", "-out", "ca.pem")
        self.certificate = self._path("ca.pem")

    def _path(self, name):
        return os.path.join(self.directory, name)

    def issue(self, common_name, names=(), expired=False, days=1):
        """An Identity; names as in LOCAL."""
        self._issued += 1
        base = str(self._issued)
        extension = ("-addext", "subjectAltName=" + ",".join(names)) if names else ()
        _openssl(self.directory, "req", "-new", *_KEY, "-config", "openssl.cnf", "-subj", f"/CN={common_name}",
                 *extension, "-keyout", f"{base}.key", "-out", f"{base}.csr")
        end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=-1 if expired else 24 * days)
        _openssl(self.directory, "ca", "-batch", "-notext", "-config", "openssl.cnf", "-startdate", _BEFORE,
                 "-enddate", end.strftime("%Y%m%d%H%M%SZ"), "-in", f"{base}.csr", "-out", f"{base}.pem")
        return Identity(self._path(f"{base}.pem"), self._path(f"{base}.key"))

    def revoke(self, identity):
        _openssl(self.directory, "ca", "-config", "openssl.cnf", "-revoke", identity.certificate)

    def revoked(self, expired=False):
        """Writes the list of what is revoked; its path, which is always the same."""
        dates = ("-crl_lastupdate", _BEFORE, "-crl_nextupdate", "20200102000000Z") if expired else ()
        _openssl(self.directory, "ca", "-config", "openssl.cnf", "-gencrl", *dates, "-out", "revoked.pem")
        return self._path("revoked.pem")
