#!/usr/bin/python3
"""Writes words.inc and word_ids.h: every word the classifier knows, in a perfect hash table that is ready at compile time.

Run it in this folder after changing a list. The hash is word_hash() of lexer.h; the two must agree, and a unit test looks
every word up again.
"""

SLOTS = 2048
MASK64 = (1 << 64) - 1
FACTOR = 0x9E3779B97F4A7C15

# Words of the grammar that the code asks about by name. All of them may stand in front of "(" without being a function.
NAMED = """
all alter analyze and as at backup char before begin binlog by cache call case change character charset check checksum clone close
collate collation columns commit connection consistent constraint continue count create databases database dbs deallocate
declare default definer delayed delete desc describe diagnostics distinct do drop dumpfile duplicate else elseif elsif end
engine error errors event execute exists exit explain export extended fields fetch file flush for format from full function
get global goto grant group handler hard help hint id if ignore immediate import in index indexes infile install insert
instance into invoker is isolation iterate key keys kill last leave level limit load local lock loop low_priority master
memory member mode modifies name names next no not no_write_to_binlog null of offset on only open optimize option or order
outfile package partition partitions password persist persist_only plugin prepare previous privileges procedure profile
profiles purge query quick read recursive release rename repair repeat replace require reset resignal resource restart
return returning revoke role rollback row savepoint schema schemas select sequence server session set share show shutdown
signal slave slow snapshot soft sql stage start statement status stop system table tables temporary then to transaction
trigger triggers truncate uninstall union unlock until update use user using value values view warnings when where while
window with work write xa xml data type true false concurrent body high_priority session_user system_user
current_user chain undo cursor condition handler_ found sqlexception sqlwarning sqlstate identified aggregate online offline
unique fulltext spatial algorithm replica add references join tablespace logfile raise exception reverse
committed consistent_ uncommitted serializable repeatable phase
"""

# Other words that may stand in front of "(" without being a call of a stored function: grammar, types, and built-ins that
# the servers' grammar knows by a keyword of their own.
PLAIN = """
against any asc between bigint binary bit blob bool boolean both cascade char column cross cube current
current_date current_role current_time current_timestamp cycle date datetime day day_hour day_microsecond day_minute
day_second dec decimal dense_rank distinctrow div double dual each empty enclosed enum escape escaped except
float float4 float8 following force generated geometrycollection geometry groups grouping having hour hour_microsecond
hour_minute hour_second inner inout int int1 int2 int3 int4 int8 integer intersect interval json json_table lateral leading
left less like linear linestring linear list localtime localtimestamp long longblob longtext match maxvalue mediumblob mediumint
mediumtext microsecond middleint minus minute minute_microsecond minute_second mod month multilinestring multipoint
multipolygon national natural nchar never none nowait number numeric nvarchar optionally out outer over overlaps
partitioning path point polygon portion preceding precision primary quarter range real recursive_ regexp replicas
return_ right rlike rollup rows rowtype second second_microsecond sets skip locked
serial signed smallint some sounds sql_big_result sql_buffer_result sql_cache sql_no_cache
sql_small_result starting straight_join string subpartition subpartitions system_time terminated text than time
timestamp timestampadd timestampdiff tinyblob tinyint tinytext trailing unbounded unsigned usage utc_date
utc_time utc_timestamp varbinary varchar varchar2 varcharacter varying virtual
vector visible week within without weight_string xor year year_month zerofill stored invisible
comment auto_increment rank row_number array xmltype zone ignored nested ordinality
convert ascii coalesce inet4 inet6 uuid_ contains hex_ hash btree rtree raw clob
""".replace("uuid_", "").replace("hex_", "")

# Built-in functions that only compute: never asked about.
PURE = """
abs acos adddate addtime add_months aes_decrypt aes_encrypt asin atan atan2 avg benchmark bin bit_and bit_count
bit_length bit_or bit_xor cast ceil ceiling character_length char_length chr coercibility column_check
column_create column_exists column_json column_list compress concat concat_ws conv convert_tz cos cot crc32 crc32c
cume_dist curdate curtime datediff date_add date_format date_sub dayname dayofmonth dayofweek dayofyear degrees des_decrypt
des_encrypt elt exp export_set extract extractvalue field find_in_set first_value floor from_base64 from_days
from_unixtime geomfromtext greatest group_concat hex ifnull inet6_aton inet6_ntoa inet_aton inet_ntoa instr isnull is_ipv4
is_ipv4_compat is_ipv4_mapped is_ipv6 json_array json_arrayagg json_array_append json_array_insert json_compact
json_contains json_contains_path json_depth json_detailed json_equals json_exists json_extract json_insert json_keys
json_length json_loose json_merge json_merge_patch json_merge_preserve json_normalize json_object json_objectagg
json_overlaps json_pretty json_query json_quote json_remove json_replace json_search json_set json_type
json_unquote json_valid json_value lag last_day last_value lcase lead least length lengthb ln locate log log10 log2 lower
lpad ltrim makedate maketime make_set max md5 median mid min monthname name_const natural_sort_key now nth_value ntile
nullif nvl nvl2 oct octet_length old_password_ ord percent_rank percentile_cont percentile_disc period_add period_diff pi position pow power
quote radians rand random_bytes regexp_instr regexp_replace regexp_substr round rpad rtrim
sec_to_time sformat sha sha1 sha2 sign sin sleep soundex space sqrt std stddev stddev_pop stddev_samp
strcmp str_to_date st_asgeojson st_astext st_distance st_distance_sphere st_geomfromtext st_x st_y subdate substr substring
substring_index subtime sum sysdate sys_guid tan timediff time_format time_to_sec
to_base64 to_char to_days to_seconds trim ucase uncompress uncompressed_length unhex unix_timestamp updatexml upper
uuid variance var_pop var_samp version weekday weekofyear yearweek
""".replace("old_password_", "")

# Functions that do more than compute: facts, and where they must run.
CALLS = {
    "get_lock": ("SQL_F_GET_LOCK", "PRIMARY"),
    "service_get_read_locks": ("SQL_F_GET_LOCK", "PRIMARY"),
    "service_get_write_locks": ("SQL_F_GET_LOCK", "PRIMARY"),
    "release_lock": ("SQL_F_RELEASE_LOCK", "PRIMARY"),
    "service_release_locks": ("SQL_F_RELEASE_LOCK", "PRIMARY"),
    "release_all_locks": ("SQL_F_RELEASE_ALL_LOCKS", "PRIMARY"),
    "is_free_lock": ("0", "PRIMARY"),
    "is_used_lock": ("0", "PRIMARY"),
    "master_pos_wait": ("0", "PRIMARY"),
    "source_pos_wait": ("0", "PRIMARY"),
    "master_gtid_wait": ("0", "PRIMARY"),
    "wait_for_executed_gtid_set": ("0", "PRIMARY"),
    "wait_until_sql_thread_after_gtids": ("0", "PRIMARY"),
    "binlog_gtid_pos": ("0", "PRIMARY"),
    "wsrep_sync_wait_upto_gtid": ("0", "PRIMARY"),
    "wsrep_last_seen_gtid": ("0", "PRIMARY"),
    "wsrep_last_written_gtid": ("0", "PRIMARY"),
    "load_file": ("0", "PRIMARY"),
    "uuid_short": ("0", "PRIMARY"),
    "nextval": ("SQL_F_SEQUENCE", "PRIMARY"),
    "lastval": ("SQL_F_SEQUENCE", "PRIMARY"),
    "setval": ("SQL_F_SEQUENCE", "PRIMARY"),
    "row_count": ("SQL_F_READS_LAST", "LAST"),
    "found_rows": ("SQL_F_READS_LAST", "LAST"),
    "connection_id": ("SQL_F_CONNECTION_ID", "ROLE"),
    "ps_current_thread_id": ("SQL_F_CONNECTION_ID", "ROLE"),
    "ps_thread_id": ("0", "PRIMARY"),
    "last_insert_id": ("0", "REPLICA"),
}

# Known words whose name a stored function may have, unqualified (tried on a server: tests/sql/check_callable.py).
CALLABLE = """
against aggregate algorithm array at auto_increment body btree chain clone columns committed concurrent connection
consistent cube current cycle data dbs definer dense_rank diagnostics dumpfile duplicate elsif empty engine error
errors escape event exception export extended fields file found full generated geometry geometrycollection goto
grouping groups hard hash hint identified immediate import indexes inet4 inet6 instance invisible invoker isolation
json_table last lateral less level linestring list locked logfile master member memory minus mode multilinestring
multipoint multipolygon name nested never next none nowait of offline online only ordinality package partitioning
partitions path persist persist_only phase plugin point polygon previous privileges profile profiles query quick raise
rank repeatable resource restart rollup rowtype rtree sequence serializable session_user sets share skip slow snapshot
soft stage statement status string subpartition subpartitions system system_time system_user tables tablespace
temporary than transaction triggers type uncommitted until vector view virtual visible warnings without work xml
xmltype zone
"""

# Words the scan of an expression must stop at. The others cost it one test.
WATCH = """
update share lock into sql_calc_found_rows for currval nextval
last_insert_id
"""

# Schemas that describe a server.
SCHEMAS = "information_schema mysql ndbinfo performance_schema sys"


def word_hash(text):
    h = 0
    data = text.encode()
    for i in range(0, len(data), 8):
        k = int.from_bytes(data[i:i + 8], "big")
        h = ((h ^ k) * FACTOR) & MASK64
        h ^= h >> 32
    return h


def lists():
    words = {}

    def add(text, **more):
        words.setdefault(text, {"flags": set(), "facts": "0", "target": "REPLICA", "named": False})
        words[text]["flags"] |= more.pop("flags", set())
        words[text].update(more)

    for w in NAMED.split():
        if not w.endswith("_"):
            add(w, flags={"WORD_GRAMMAR"}, named=True)
    for w in PLAIN.split():
        if not w.endswith("_"):
            add(w, flags={"WORD_GRAMMAR"})
    for w in PURE.split():
        add(w, flags={"WORD_PURE"})
    for w, (facts, target) in CALLS.items():
        add(w, flags={"WORD_CALL"}, facts=facts, target=target)
    for w in WATCH.split():
        if not w.endswith("_"):
            add(w, flags={"WORD_WATCH"}, named=True)
    for w in SCHEMAS.split():
        add(w, flags={"WORD_SCHEMA"})
    words["count"]["flags"] = {"WORD_PURE"}

    for w in ("null", "default", "true", "false"):
        words[w]["flags"].add("WORD_LITERAL")
    for w in CALLABLE.split():
        words[w]["flags"].discard("WORD_GRAMMAR")
    return words


def place(words, window):
    """A perfect hash: each word has a slot of its own, found by a window of the hash and a shift for its top byte."""
    buckets = [[] for _ in range(256)]
    for name in words:
        buckets[word_hash(name) >> 56].append(name)
    places, shifts = {}, [0] * 256
    for number in sorted(range(256), key=lambda n: -len(buckets[n])):
        for shift in range(SLOTS):
            slots = [(word_hash(n) >> window ^ shift) % SLOTS for n in buckets[number]]
            if len(set(slots)) == len(slots) and not any(at in places for at in slots):
                break
        else:
            return None, None
        shifts[number] = shift
        places.update(zip(slots, buckets[number]))
    return places, shifts


def main():
    words = lists()
    named = [n for n in sorted(words) if words[n]["named"]]
    for window in range(44):
        places, shifts = place(words, window)
        if places:
            break
    else:
        raise SystemExit("no perfect hash: more SLOTS")

    with open("word_ids.h", "w") as out:
        out.write("/* Written by make_words.py. Words that have a name in the code. */\n"
                  "#ifndef TANDEM_SQL_WORD_IDS_H\n#define TANDEM_SQL_WORD_IDS_H\n\n"
                  "enum word_id {\n\tW_NONE,\n\tW_PLAIN, /* known, but nobody asks for it by name */\n")
        for n in named:
            out.write(f"\tW_{n.upper()},\n")
        out.write(f"}};\n\nenum {{ WORD_SLOTS = {SLOTS}, WORD_WINDOW = {window} }};\n\n#endif\n")

    with open("words.inc", "w") as out:
        out.write("/* Written by make_words.py. */\nconst struct word word_list[WORD_SLOTS + 1] = {\n")
        for at, n in sorted(places.items()):
            w = words[n]
            flags = " | ".join(sorted(w["flags"])) or "0"
            ident = f"W_{n.upper()}" if w["named"] else "W_PLAIN"
            out.write(f"\t[{at}] = {{{w['facts']}, \"{n}\", {ident}, {flags}, SQL_TO_{w['target']}, {len(n)}}},\n")
        out.write("\t[WORD_SLOTS] = {.text = \"\"},\n};\n\nconst uint64_t word_hashes[WORD_SLOTS] = {\n")
        for at, n in sorted(places.items()):
            out.write(f"\t[{at}] = UINT64_C({word_hash(n):#018x}),\n")
        out.write("};\n\nconst uint16_t word_shifts[256] = {\n")
        for i in range(0, 256, 16):
            out.write("\t" + ", ".join(str(x) for x in shifts[i:i + 16]) + ",\n")
        out.write("};\n")


main()
