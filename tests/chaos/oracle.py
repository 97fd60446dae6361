"""What sensors know to be acknowledged, against what is in the database."""
import collections
import dataclasses


@dataclasses.dataclass
class Account:
    """Messages, counted; .findings are the failures among them in words."""
    messages: int = 0
    lost: int = 0
    duplicated: int = 0
    again: int = 0        # without a key, by QoS 1, after an acknowledgement was lost on its way
    rejected: int = 0
    broker_lost: int = 0  # mosquitto had acknowledged them, and never delivered them
    dropped: int = 0      # QoS 0, and where loss is part of the class
    findings: list = dataclasses.field(default_factory=list)
    stories: list = dataclasses.field(default_factory=list)  # of some of these messages

    def words(self):
        return ", ".join(f"{name} {value}" for name, value in vars(self).items() if isinstance(value, int))


class Oracle:
    def __init__(self, site):
        self._site = site
        self.allowed = {site.fault}  # the faults that have happened: what they excuse is excused

    def _may(self, what):
        return any(getattr(fault, what) for fault in self.allowed)

    def judge(self):
        """The account of everything since the site began."""
        account = Account(messages=self._site.load.progress)
        stored, rejects = self._stored(), self._rejects()
        for sensor in self._site.load.sensors:
            rows, rejected = stored[sensor.topic], rejects[sensor.topic]
            account.rejected += sum(rejected.values())
            (self._constant if sensor.kind.constant else self._unique)(account, sensor, rows, rejected)
        self._values(account)
        if not (self._may("again") or self._may("rejects")) and self._site.shape.connections == 1:
            self._order(account)
        return account

    def _values(self, account):
        """Rows have what their payloads had."""
        for sensor, count in self._site.database.query(
                "SELECT sensor, count(*) FROM telemetry.reading WHERE value IS DISTINCT FROM CASE WHEN sensor LIKE 'twice%'"
                " THEN 7.5 ELSE n / 8.0 END GROUP BY sensor"):
            account.findings.append(f"{sensor}: {count} rows with another value than was published")

    def _order(self, account):
        """Nothing was sent again, and there is one connection: what arrived first was not committed later."""
        commits = collections.defaultdict(list)
        for sensor, numbers in self._site.database.query(
                "SELECT sensor, array_agg(n) FROM telemetry.count GROUP BY sensor, xmin ORDER BY xmin::text::bigint"):
            commits[sensor].append(numbers)
        for sensor in self._site.load.sensors:
            if sensor.kind.constant or sensor.kind.keyed:
                continue
            arrived = self._site.ledger.order(sensor.topic) if self._site.ledger else range(sensor.published)
            place = {n: at for at, n in enumerate(arrived)}
            latest = -1
            for numbers in commits[sensor.kind.name]:
                places = [place[n] for n in numbers if n in place]
                late = [n for n in numbers if place.get(n, latest) < latest]
                if late:
                    account.findings.append(f"{sensor.name}: committed after what came behind them: {_some(late)}")
                latest = max([latest, *places])

    def _stored(self):
        """{topic: Counter of n}"""
        stored = collections.defaultdict(collections.Counter)
        for table in ("reading", "count"):
            for sensor, n, count in self._site.database.query(
                    f"SELECT sensor, n, count(*) FROM telemetry.{table} GROUP BY sensor, n"):
                stored[f"{table}/{sensor}"][n] = count
        return stored

    def _rejects(self):
        """{topic: Counter of n}"""
        kinds = {sensor.topic: sensor.kind for sensor in self._site.load.sensors}
        rejects = collections.defaultdict(collections.Counter)
        for topic, payload in self._site.database.query("SELECT topic, payload FROM sensorlog.reject"):
            if topic in kinds:
                rejects[topic][kinds[topic].rejected(bytes(payload))] += 1
        return rejects

    def _unique(self, account, sensor, rows, rejected):
        kind = sensor.kind
        expected = {kind.identity(n): n for n in (sensor.acknowledged if kind.qos else range(sensor.published))}
        self._miss(account, sensor, [expected[i] for i in expected.keys() - rows.keys() - rejected.keys()])
        strange = (rows.keys() | rejected.keys()) - {kind.identity(n) for n in range(sensor.published)}
        if strange:
            account.findings.append(f"{sensor.name}: nobody has published {_some(strange)}")
        wrong = [n for n in rejected if not kind.bad(n)]
        if wrong and not self._may("rejects"):
            account.findings.append(f"{sensor.name}: in the reject table without reason: {_some(wrong)}")
        wrong = [n for n in rows if kind.bad(n)]
        if wrong:
            account.findings.append(f"{sensor.name}: stored, and it should be in the reject table: {_some(wrong)}")
        twice = {n: rows[n] + rejected[n] for n in rows.keys() | rejected.keys() if rows[n] + rejected[n] > 1}
        keyed = {n: times for n, times in twice.items() if kind.keyed and rows[n] > 1}
        if keyed:
            self._blame(account, sensor, len(keyed), f"more than once in spite of the key: {_some(keyed)}", keyed)
        if kind.keyed and self._may("rejects"):
            return  # one that was rejected may be a row when it comes again
        others = {n: times for n, times in twice.items() if n not in keyed}
        for refused in (False, True):
            again = {n: times for n, times in others.items() if bool(rejected[n]) == refused}
            self._repeated(account, sensor, sum(again.values()) - len(again), again, refused)

    def _constant(self, account, sensor, rows, rejected):
        there = sum(rows.values()) + sum(rejected.values())
        expected = len(sensor.acknowledged) if sensor.qos else sensor.published
        if there < expected:
            self._miss(account, sensor, [None] * (expected - there), there)
        elif there > sensor.published:
            self._repeated(account, sensor, there - sensor.published, [there], bool(rejected))

    def _miss(self, account, sensor, missing, there=0):
        """missing: the n of each; None where they are all alike, and so many are there."""
        ledger, count = self._site.ledger, len(missing)
        if not sensor.qos or self._may("drops"):
            account.dropped += count
            return
        if self._may("broker_loses") and ledger:
            taken = ledger.acknowledged.get(sensor.topic, {})
            if sensor.kind.constant:
                missing = missing[:max(0, sum(taken.values()) - there)]
            else:
                missing = [n for n in missing if sensor.kind.payload(n) in taken]
            account.broker_lost += count - len(missing)
        if missing:
            account.lost += len(missing)
            account.findings.append(f"{sensor.name}: lost: {_some(missing)}{self._seen(sensor, missing)}")
            self._tell(account, sensor, missing)

    def _seen(self, sensor, missing):
        """What the proxy before the daemon has seen of them."""
        ledger, payload = self._site.ledger, sensor.kind.payload
        if ledger is None or sensor.kind.constant:
            return ""
        delivered = [n for n in missing if payload(n) in ledger.seen.get(sensor.topic, ())]
        taken = [n for n in missing if payload(n) in ledger.acknowledged.get(sensor.topic, ())]
        return f"; {len(delivered)} of them were delivered to the daemon, it acknowledged {len(taken)}"

    def _repeated(self, account, sensor, count, which, rejected=False):
        """Stored more often than published, and no key forbids it."""
        ledger = self._site.ledger
        if ledger is None:
            redelivered = sensor.sent_again
        else:
            different = sensor.published if sensor.kind.constant else len(ledger.seen.get(sensor.topic, ()))
            redelivered = max(0, ledger.delivered[sensor.topic] - different)
        # A PUBREC that refuses ends the exchange: sent once more it is a new message [MQTT-4.3.3-9].
        ended = rejected and sensor.version == 5 and ledger is None
        excuse = "again" if sensor.qos == 1 or ended else "qos2_again"
        excused = min(count, redelivered) if self._may(excuse) else 0
        account.again += excused
        if count > excused:
            self._blame(account, sensor, count - excused,
                        f"more often than published: {_some(which)}, while {redelivered} were delivered again", which)

    def _blame(self, account, sensor, count, words, which=()):
        account.duplicated += count
        account.findings.append(f"{sensor.name}: {words}")
        self._tell(account, sensor, which)

    def _tell(self, account, sensor, which):
        if self._site.ledger and not sensor.kind.constant:
            account.stories += [f"{sensor.topic} {n}: {'; '.join(self._site.ledger.story(sensor.topic, sensor.kind.payload(n)))}"
                                for n in sorted(which)[:5]]


def _some(found):
    """The first few of them."""
    found = sorted(found, key=lambda one: (one is None, one))
    return f"{len(found)}: {', '.join(map(str, found[:10]))}{' ...' if len(found) > 10 else ''}"
