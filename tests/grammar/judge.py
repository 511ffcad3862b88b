"""Judges instances of schemas for the tests of grammars: jsonschema, and formats from their RFCs. Nothing of ours."""
import datetime, re
import jsonschema

CLOCK = r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)"
ATOM = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
LABEL = r"([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z]+"
OCTET = r"(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"


def is_date(v):
    try:
        return bool(re.fullmatch(r"\d{4}-\d\d-\d\d", v, re.A)) and datetime.date.fromisoformat(v) is not None
    except ValueError:
        return False


def is_email(v):
    local, _, domain = v.rpartition("@")
    labels = domain.split(".")
    return bool(re.fullmatch(ATOM + "(\\." + ATOM + ")*", local) and re.fullmatch(LABEL, domain)) and len(local) <= 64 and \
        len(domain) <= 255 and all(len(x) <= 63 for x in labels)


def checker():
    c = jsonschema.FormatChecker(formats=())
    for name, test in {"date": is_date, "time": lambda v: bool(re.fullmatch(CLOCK, v, re.A)),
                       "date-time": lambda v: is_date(v[:10]) and bool(re.fullmatch("T" + CLOCK, v[10:], re.A)),
                       "uuid": lambda v: bool(re.fullmatch("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", v)),
                       "ipv4": lambda v: bool(re.fullmatch(OCTET + "(\\." + OCTET + "){3}", v, re.A)), "email": is_email}.items():
        c.checkers[name] = (lambda v, test=test: not isinstance(v, str) or test(v), ())
    return c


def judge(schema):
    return jsonschema.Draft202012Validator(schema, format_checker=checker())
