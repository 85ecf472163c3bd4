"""Every fixed limit of the gateway, with its unit and its reason.

A name ends in its unit: `_BYTES` (of UTF-8 for a text), `_CHARS`, `_SECONDS` or `_MILLISECONDS`. A
name without one is a count. Limits that a deployment can change are variables; their defaults are
in `settings.load.Settings`.
"""

MEGABYTE = 1024 * 1024

# An isolate has 128 MB, the interpreter included, of which some 45 MB are used at start:
# https://developers.cloudflare.com/workers/platform/limits/#memory
# The first budget is for captured requests and replies until they have become observations. The
# second is for observations that wait for delivery. The body of an upload contains up to two
# further copies of each.
CAPTURE_BUDGET_BYTES = 10 * MEGABYTE
DELIVERY_BUDGET_BYTES = 5 * MEGABYTE
# How long a reservation lasts after its last use. A capture uses its reservation with each read,
# and a model may think for minutes before the first one. A delivery reserves once and ends within
# some 40 seconds.
CAPTURE_RESERVATION_SECONDS = 300.0
DELIVERY_RESERVATION_SECONDS = 60.0
# A generous estimate of the memory that an observation needs besides its input and output.
OBSERVATION_OVERHEAD_BYTES = 8_000

# -- JSON --

# Pyodide 314 overflows the JavaScript stack at some thousand levels, which ends the interpreter.
MAX_JSON_DEPTH = 100
# In a queue message, metadata and parameters are two levels deeper than where they were read, and a
# dialect may nest a value a little deeper.
MAX_MESSAGE_JSON_DEPTH = 110
# JavaScript's Number.MAX_SAFE_INTEGER + 1: a JSON parser may round larger integers.
MAX_JSON_INTEGER = 2**53

# -- Regular expressions of a deployment or a caller --

MAX_PATTERNS = 20
MAX_PATTERN_CHARS = 500
# A repetition with more possible ends than this counts as unbounded.
MAX_SHORT_REPETITION = 64
# How many ways a search may have to try from one position of a text. The clock of a Worker stands
# still while it computes, so no timeout can end a search.
MAX_MATCH_PATHS = 100
# A text is searched in overlapping windows of this length, since an unbounded repetition is tried
# from each position of a window to the window's end.
REGEX_WINDOW_CHARS = 500
REGEX_OVERLAP_CHARS = 100

# -- Settings --

MAX_BATCH_OBSERVATIONS = 100
# An ingestion batch contains input and output twice (in trace and observation), and Langfuse
# accepts 4.4 MB.
MAX_FIELD_BYTES = 800_000
MIN_FIELD_BYTES = 1000
MAX_UPLOAD_TIMEOUT_SECONDS = 30.0
# Cloudflare ends what `waitUntil` runs 30 seconds after the response:
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
# The pause before a retry is a random part of a time span that doubles with each retry.
FIRST_RETRY_PAUSE_SECONDS = 0.5
MAX_RETRY_PAUSE_SECONDS = 8.0
MAX_TOTAL_PAUSE_SECONDS = 60.0
# How often a pause is interrupted to check whether the client has left.
CLIENT_CHECK_SECONDS = 1.0
# A body is searched for a model with a provider prefix in windows, so that Python never holds a
# large body whole. The overlap is longer than such a prefix.
SCAN_WINDOW_BYTES = 256 * 1024
SCAN_OVERLAP_BYTES = 256
# The bytes and the JSON value of a larger body are not kept while the provider replies.
MAX_KEPT_BODY_BYTES = 64 * 1024
# How many places in a body that look like its model are tried.
MAX_MODEL_CANDIDATES = 4
# How often a path is percent-decoded to check it: each proxy on its way may decode it once more.
MAX_PATH_DECODINGS = 5

# -- Capture of replies --

# The first reads of a captured reply end with each chunk, since the time of the first token is
# recorded. Each further read waits until its buffer is full, since a call from JavaScript into
# Python costs as much as dozens of calls within Python. The buffer of a read stays allocated while
# the read waits.
FIRST_READ_BYTES = 8 * 1024
MAX_READ_BYTES = 32 * 1024
# Until the first event with output of the model has been seen, a read returns whatever has arrived.
# Comments that keep the connection alive can come for a minute before that event. A read that waits
# costs nothing, so the number of reads is limited, and not their time.
MAX_FIRST_TOKEN_READS = 64
# A reply that a retry or a fallback replaces is an error, which is short.
MAX_DISCARDED_BYTES = 64 * 1024
DISCARDED_TIMEOUT_SECONDS = 5.0
# The client may send its next request as soon as it has a reply; that request is handled first.
OBSERVATION_DELAY_SECONDS = 0.005

# -- Dialects --

# How much of a body is recorded that cannot be parsed as JSON.
MAX_UNREADABLE_CHARS = 10_000
# A longer value of an unknown parameter is treated as content, not as a setting.
MAX_SETTING_CHARS = 1000
MAX_ERROR_CHARS = 1000
# A delta may continue one of this many last items of a list. Without the limit, a stream in which
# each delta starts a new item would take time in proportion to the square of its length.
MAX_OPEN_ITEMS = 256
# The samplings of one message of Anthropic's whose tokens are read. A message has a few.
MAX_ITERATIONS = 100
# A longer name of a tool call is not continued: each piece would copy it.
MAX_NAME_CHARS = 1000
# How much of a body is decoded: deflate may expand it a thousandfold. A body is seldom encoded more
# than once.
MAX_DECODED_BYTES = 4 * MEGABYTE
MAX_CONTENT_ENCODINGS = 3
MAX_ENCODING_CHARS = 40

# -- Redaction --

# Shorter values are placeholders such as "none" or "test".
MIN_SECRET_CHARS = 8
# Searching a long text for more values would delay every other request.
MAX_SEARCHED_SECRETS = 100
# A query or header value of at least this length is taken for a credential, even if its name does
# not indicate one.
MIN_OPAQUE_SECRET_CHARS = 16
# How many levels of JSON inside JSON strings are searched for an escaped secret.
MAX_ESCAPE_DEPTH = 4
# The client's own request id is not used where headers and query are longer than this: they must be
# searched for credentials that the id may contain.
MAX_REQUEST_ID_SEARCH_CHARS = 16_384

# -- Truncation --

# A text is cut at a blank, if there is one among this many last characters: half a credential could
# not be recognised any more.
MAX_TRUNCATION_BACKTRACK_CHARS = 300
# Texts inside a JSON value are cut to no less than this. If that is not enough, the value's JSON
# text is cut instead.
MIN_TRUNCATED_TEXT_CHARS = 100

# -- Observations --

# Langfuse's limit on user, session and tag values.
MAX_VALUE_CHARS = 200
MAX_STATUS_MESSAGE_CHARS = 2000
MAX_METADATA_NAMES = 5000
# Further metadata of a span is sent in one attribute. This is also what OpenTelemetry's SDKs allow:
# https://opentelemetry.io/docs/specs/otel/common/#configurable-parameters
MAX_METADATA_ATTRIBUTES = 128
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
# An upper bound for what the body of an upload contains around its items.
ENVELOPE_BYTES = 1000
# The rest of the 50 subrequests above, after the attempts at providers.
MAX_UPLOADS_PER_REQUEST = 30
# Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
FIRST_UPLOAD_BACKOFF_SECONDS = 0.5
MAX_UPLOAD_BACKOFF_SECONDS = 8.0
# For all retries of an isolate together: its single thread also serves the clients' streams.
MAX_UPLOAD_RETRIES_PER_SECOND = 40
# The health check has little time, since the response to an upload also shows which protocol the
# server supports.
HEALTH_TIMEOUT_SECONDS = 2.0
HEALTH_CHECK_INTERVAL_SECONDS = 10.0
HEALTH_POLL_SECONDS = 0.05
# Langfuse's response to an upload is short. A much longer one does not come from Langfuse.
USUAL_UPLOAD_RESPONSE_BYTES = 16 * 1024
MAX_UPLOAD_RESPONSE_BYTES = MEGABYTE
# The content of an observation that a server refuses as too large is cut to a quarter of the
# refused size, but not below this.
MIN_UPLOADED_FIELD_BYTES = 1000
# The platform may end a request while it delivers observations. Another request takes them over
# when the lease has been overdue for this long.
LEASE_GRACE_SECONDS = 3.0
# The first and the longest pause between checks whether another request has delivered this one's
# observations. The pause doubles with each check.
LEASE_POLL_SECONDS = 0.1
MAX_LEASE_POLL_SECONDS = 1.6
# How long a lease lasts for the hand-over to the queue.
QUEUE_LEASE_SECONDS = 5.0

# -- Cloudflare Queues: https://developers.cloudflare.com/queues/platform/limits/ --

# Cloudflare allows 128 KB for a message, and 256 KB and 100 messages for a send, with some overhead
# for each message.
MAX_QUEUE_MESSAGE_BYTES = 127_000
MAX_QUEUE_SEND_BYTES = 255_000
MAX_QUEUE_SEND_MESSAGES = 100
QUEUE_MESSAGE_OVERHEAD_BYTES = 100
MAX_UNPACKED_MESSAGE_BYTES = 8 * MEGABYTE
# If an observation is too large for a message, its input and output are cut to the first size, then
# to half of it and so on, but not below the second.
MAX_QUEUED_FIELD_BYTES = 200_000
MIN_QUEUED_FIELD_BYTES = 1000
# A send that takes longer counts as failed: waiting on, the platform could end the job, and its
# observations would be lost.
QUEUE_SEND_TIMEOUT_SECONDS = 3.0
# The first and the longest pause before a message whose observation was not stored is delivered
# again. The pause doubles with each delivery.
FIRST_REDELIVERY_SECONDS = 10
MAX_REDELIVERY_SECONDS = 3600

# -- Other bindings --

# Rate limit and cache usually answer from the same machine.
BINDING_TIMEOUT_SECONDS = 3.0

# -- Log --

# The response to an upload may quote everything that was sent.
MAX_LOGGED_REASON_CHARS = 300
MAX_LOGGED_TRACE_IDS = 20
# The same wrong key or URL is logged once in this time.
REPEATED_REPORT_SECONDS = 60.0
