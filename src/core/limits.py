"""Every limit of the gateway, with its unit and where it comes from.

The unit is the end of a name: `_BYTES` (of UTF-8 where it is text), `_CHARS`, `_SECONDS`,
`_MILLISECONDS`; a name without one is a count. What a deployment can change is a variable, whose
default stands in `settings.load.Settings`.
"""

MEGABYTE = 1024 * 1024

# An isolate has 128 MB, the interpreter included, of which some 45 MB are used at start:
# https://developers.cloudflare.com/workers/platform/limits/#memory
# The first budget is for what is captured of requests and replies until it has become observations.
# The second is for observations that wait for their delivery: each of these also stands, up to
# twice, in the body of an upload.
CAPTURE_BUDGET_BYTES = 10 * MEGABYTE
DELIVERY_BUDGET_BYTES = 5 * MEGABYTE
# How long a reservation of these budgets lasts after its last use. A captured reply uses it with
# each read, and a model may think for minutes before the first one. A delivery reserves once and
# ends within some 40 seconds.
CAPTURE_RESERVATION_SECONDS = 300.0
DELIVERY_RESERVATION_SECONDS = 60.0
# What an observation takes beside its input and output: an estimate, generous.
OBSERVATION_OVERHEAD_BYTES = 8_000

# -- JSON --

# Pyodide 314 overflows the JavaScript stack at some thousand levels, which ends the interpreter.
MAX_JSON_DEPTH = 100
# Metadata and parameters stand in a queue message two levels deeper than where they were read, and
# a dialect may nest a value a little deeper.
MAX_MESSAGE_JSON_DEPTH = 110
# JavaScript's Number.MAX_SAFE_INTEGER + 1: a JSON reader may round what is larger.
MAX_JSON_INTEGER = 2**53

# -- Regular expressions of a deployment or a caller --

MAX_PATTERNS = 20
MAX_PATTERN_CHARS = 500
# A repetition with more possible ends than this counts as unbounded.
MAX_SHORT_REPETITION = 64
# In how many ways a match may go on from one place. The clock of a Worker stands still while it
# computes, so that no timeout can end a search.
MAX_MATCH_PATHS = 100
# A text is searched in windows of this length, each of which repeats the end of the one before: an
# unbounded repetition is tried from each place of a window to the window's end.
REGEX_WINDOW_CHARS = 500
REGEX_OVERLAP_CHARS = 100

# -- Settings --

MAX_BATCH_OBSERVATIONS = 100
# Input and output stand twice in an ingestion batch (trace and observation), of which Langfuse
# takes 4.4 MB.
MAX_FIELD_BYTES = 800_000
MIN_FIELD_BYTES = 1000
MAX_UPLOAD_TIMEOUT_SECONDS = 30.0
# Cloudflare lets `waitUntil` go on for 30 seconds after the response:
# https://developers.cloudflare.com/workers/runtime-apis/context/#waituntil
MAX_RETRY_SECONDS = 28.0
MAX_FLUSH_INTERVAL_MILLISECONDS = 10_000

# -- Routing configs --

# Nested targets and retries multiply what one request costs.
MAX_TARGET_DEPTH = 3
MAX_TARGETS = 50
MAX_RETRIES = 5
MAX_REGEX_CONDITIONS = 50
MAX_QUERY_DEPTH = 5
MAX_QUERY_MEMBERS = 50
MAX_REQUEST_TIMEOUT_SECONDS = 600.0
MAX_CACHE_AGE_SECONDS = 30 * 24 * 3600

# -- Attempts at providers --

# A request may make 50 subrequests on Cloudflare's free plan, which its tracing shares:
# https://developers.cloudflare.com/workers/platform/limits/#subrequests
MAX_ATTEMPTS_PER_REQUEST = 8
# The pause before a retry is a random part of a span that doubles with each retry.
FIRST_RETRY_PAUSE_SECONDS = 0.5
MAX_RETRY_PAUSE_SECONDS = 8.0
MAX_TOTAL_PAUSE_SECONDS = 60.0
# How often a pause is interrupted to see whether the client has left.
CLIENT_CHECK_SECONDS = 1.0
# A body is searched for a model with a provider prefix in windows, so that Python never holds a
# large body whole. The overlap is longer than such a prefix.
SCAN_WINDOW_BYTES = 256 * 1024
SCAN_OVERLAP_BYTES = 256
# How many places of a body that look like its model are tried.
MAX_MODEL_CANDIDATES = 4
# A path is decoded as often as a chain of proxies may decode it.
MAX_PATH_DECODINGS = 5

# -- Capture of replies --

# The first read of a captured reply ends with the first chunk, whose time is recorded. Each further
# read waits until its buffer is full, since a call from JavaScript into Python costs as much
# as dozens of calls within Python. The buffer of a read is allocated while it waits.
FIRST_READ_BYTES = 8 * 1024
MAX_READ_BYTES = 32 * 1024
# A reply that a retry or a fallback replaces is an error, which is short.
MAX_DISCARDED_BYTES = 64 * 1024
DISCARDED_TIMEOUT_SECONDS = 5.0
# The client may send its next request as soon as it has a reply: its handling goes first.
OBSERVATION_DELAY_SECONDS = 0.005

# -- Dialects --

# The part of a body that is recorded where it cannot be read as JSON.
MAX_UNREADABLE_CHARS = 10_000
# A longer value of a parameter that no dialect knows is content, not a setting.
MAX_SETTING_CHARS = 1000
MAX_ERROR_CHARS = 1000
# A delta continues one of the last items of a list. With more of them, a stream of ever new items
# would take time in proportion to the square of its length.
MAX_OPEN_ITEMS = 256

# -- Redaction --

# Shorter values are placeholders such as "none" or "test".
MIN_SECRET_CHARS = 8
# A long text cannot be searched for more values without delaying every other request.
MAX_SEARCHED_SECRETS = 100
# A value of a query or a header whose name does not indicate a secret is taken for a credential
# from this length on.
MIN_OPAQUE_SECRET_CHARS = 16
# How many times over a value may be JSON inside a JSON string.
MAX_ESCAPE_DEPTH = 4
# Headers and query are searched for credentials up to this length before a client's own request id
# is taken over.
MAX_REQUEST_ID_SEARCH_CHARS = 16_384

# -- Truncation --

# A text is cut at the last blank in its last characters, so that no half of a credential stays
# which could no longer be recognised.
MAX_TRUNCATION_BACKTRACK_CHARS = 300
# Texts inside a value are cut to no less than this; after that the value's JSON text is cut.
MIN_TRUNCATED_TEXT_CHARS = 100

# -- Observations --

# Langfuse's limit on user, session and tag values.
MAX_VALUE_CHARS = 200
MAX_STATUS_MESSAGE_CHARS = 2000
MAX_METADATA_NAMES = 5000
MAX_METADATA_NAME_CHARS = 200
MAX_METADATA_VALUE_BYTES = 10_000
MAX_METADATA_BYTES = 100_000
MAX_PARAMETERS = 100
MAX_PARAMETER_CHARS = 1000
MAX_FINISH_REASONS = 128

# -- Uploads to Langfuse --

# "Batch sizes are limited to 3.5 MB in total": https://api.reference.langfuse.com/#tag/ingestion
MAX_INGESTION_BYTES = 3_500_000
# "5MB per request": https://langfuse.com/faq/all/api-limits
MAX_OTLP_BYTES = 4_500_000
# What the body of an upload has around its items, at most.
ENVELOPE_BYTES = 1000
# Of the 50 subrequests above, what providers leave.
MAX_UPLOADS_PER_REQUEST = 30
# Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
FIRST_UPLOAD_BACKOFF_SECONDS = 0.5
MAX_UPLOAD_BACKOFF_SECONDS = 8.0
# All retries of an isolate together: it has one thread, which its clients' streams need too.
MAX_UPLOAD_RETRIES_PER_SECOND = 40
# A response to an upload shows which protocol the server supports as well, so that the health check
# has little time.
HEALTH_TIMEOUT_SECONDS = 2.0
HEALTH_CHECK_INTERVAL_SECONDS = 10.0
HEALTH_POLL_SECONDS = 0.05
# Langfuse's response to an upload is short; a longer one is from something else.
USUAL_UPLOAD_RESPONSE_BYTES = 16 * 1024
MAX_UPLOAD_RESPONSE_BYTES = MEGABYTE
# An observation that a server calls too large is cut to a quarter, down to this size.
MIN_UPLOADED_FIELD_BYTES = 1000
# The platform may end a request while it delivers. Another one takes its observations over when
# the lease has been overdue for this long.
LEASE_GRACE_SECONDS = 3.0
# How often a request looks whether another one has delivered its observations: the pause doubles.
LEASE_POLL_SECONDS = 0.1
MAX_LEASE_POLL_SECONDS = 1.6
# How long the hand-over to the queue may take.
QUEUE_LEASE_SECONDS = 5.0

# -- Cloudflare Queues: https://developers.cloudflare.com/queues/platform/limits/ --

# 128 KB a message, 256 KB and 100 messages a send; each message has some overhead.
MAX_QUEUE_MESSAGE_BYTES = 127_000
MAX_QUEUE_SEND_BYTES = 255_000
MAX_QUEUE_SEND_MESSAGES = 100
QUEUE_MESSAGE_OVERHEAD_BYTES = 100
MAX_UNPACKED_MESSAGE_BYTES = 8 * MEGABYTE
# Input and output of an observation that is too large for a message are cut to the first size, then
# to half of it, down to the second.
MAX_QUEUED_FIELD_BYTES = 200_000
MIN_QUEUED_FIELD_BYTES = 1000
# A send that takes longer has failed: the platform ends the job before long, with a loss.
QUEUE_SEND_TIMEOUT_SECONDS = 3.0
# A message that was not delivered comes again after the first time, then after twice as long.
FIRST_REDELIVERY_SECONDS = 10
MAX_REDELIVERY_SECONDS = 3600

# -- Other bindings --

# Rate limit and cache usually answer from the same machine.
BINDING_TIMEOUT_SECONDS = 3.0

# -- Log --

# A result of an upload may quote all that was sent.
MAX_LOGGED_REASON_CHARS = 300
MAX_LOGGED_TRACE_IDS = 20
# A wrong key or URL is logged once in this time.
REPEATED_REPORT_SECONDS = 60.0
