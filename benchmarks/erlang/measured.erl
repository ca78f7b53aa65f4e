%% Erlang's side of the benchmarks. Two entry points, started by benchmarks/erlang/run.py:
%%   measured:far([Members, Seed])   serves; prints a line when ready
%%   measured:near([Workload])       measures; prints one line of JSON for each figure
%% The workloads do what benchmarks/programs/gmp_local.py and gmp_remote.py do.
-module(measured).
-export([far/1, near/1]).
-export([init/1, handle_call/3, handle_cast/2]).

-define(SEED, 'measured_far@127.0.0.1').
-define(MIB, 1048576).

%% ---- figures

clock() -> erlang:monotonic_time(nanosecond).

emit(Metric, Value) ->
    io:format("{\"metric\": \"~s\", \"value\": ~.6f}~n", [Metric, float(Value)]).

emit_rate(Unit, Count, Nanoseconds) -> emit(Unit, Count * 1.0e9 / Nanoseconds).

scaled(Count) ->
    Factor = case os:getenv("GMP_BENCH_SCALE") of
        false -> 1.0;
        Text -> try list_to_float(Text) catch error:badarg -> float(list_to_integer(Text)) end
    end,
    max(100, trunc(Count * Factor)).

resident() ->
    {ok, Text} = file:read_file("/proc/self/statm"),
    [_, Pages | _] = binary:split(Text, <<" ">>, [global]),
    4096 * binary_to_integer(Pages).

%% ---- the far node

far([Members, Seed]) ->
    case Seed of "none" -> ok; _ -> pong = net_adm:ping(list_to_atom(Seed)) end,
    {ok, _} = pg:start(pg),
    register(sink, spawn(fun() -> sink(0) end)),
    register(echo, spawn(fun echo/0)),
    register(mortal, spawn(fun() -> receive die -> ok end end)),
    {ok, _} = gen_server:start({local, calculator}, ?MODULE, [], []),
    [spawn(fun() -> ok = pg:join(room, self()), sink(0) end) || _ <- lists:seq(1, list_to_integer(Members))],
    io:format("ready~n").

sink(Count) ->
    receive
        {tag, _} -> sink(Count + 1);
        {tag, _, _} -> sink(Count + 1);
        {done, Who} -> Who ! {ack, Count}, sink(0)
    end.

echo() -> receive {ping, Who, Value} -> Who ! {pong, Value}, echo() end.

init([]) -> {ok, none}.
handle_call({add, A, B}, _From, State) -> {reply, A + B, State}.
handle_cast(_, State) -> {noreply, State}.

%% ---- the near node

near([Workload]) ->
    case lists:member(Workload, ["W1", "W2", "W7", "W8", "W12", "W13"]) of
        true -> ok;
        false -> pong = net_adm:ping(?SEED)
    end,
    workload(Workload),
    halt(0).

workload("W1") ->
    Count = scaled(1000000),
    Sink = spawn(fun() -> sink(0) end),
    Start = clock(),
    send_tags(Sink, Count),
    acknowledged(Sink, Count),
    emit_rate("msg/s", Count, clock() - Start);
workload("W2") ->
    Count = scaled(200000),
    Echo = spawn(fun echo/0),
    Me = self(),
    Start = clock(),
    spawn(fun() -> ping_pong(Echo, Count), Me ! finished end),
    receive finished -> ok end,
    emit_rate("rtt/s", Count, clock() - Start);
workload("W3") -> one_way(scaled(1000000), 0);
workload("W4") -> one_way(scaled(300000), 1024);
workload("W4b") -> one_way(scaled(1000), ?MIB);
workload("W4b 64 KiB") -> one_way(scaled(16000), ?MIB div 16);
workload("W4b 256 KiB") -> one_way(scaled(4000), ?MIB div 4);
workload("W4b 4 MiB") -> one_way(scaled(250), 4 * ?MIB);
workload("W4b 16 MiB") -> one_way(scaled(60), 16 * ?MIB);
workload("W4b 64 MiB") -> one_way(scaled(16), 64 * ?MIB);
workload("W5") -> round_trips();
workload("W5@1core") -> round_trips();
workload("W6") ->
    Callers = 100, Each = scaled(100000) div Callers, Me = self(),
    Calculator = {calculator, ?SEED},
    2 = gen_server:call(Calculator, {add, 1, 1}),
    Start = clock(),
    [spawn(fun() -> calls(Calculator, Each), Me ! finished end) || _ <- lists:seq(1, Callers)],
    [receive finished -> ok end || _ <- lists:seq(1, Callers)],
    emit_rate("call/s", Callers * Each, clock() - Start);
workload("W7") ->
    Count = scaled(100000),
    Body = fun() -> receive stop -> ok end end,
    Start = clock(),
    made_and_killed(Body, Count),
    emit_rate("create+kill/s", Count, clock() - Start),
    erlang:garbage_collect(),
    Before = resident(),
    Kept = [spawn(Body) || _ <- lists:seq(1, Count)],
    timer:sleep(300),
    emit("bytes/port", (resident() - Before) / length(Kept));
workload("W8") ->
    Times = [start_to_reply(Number) || Number <- lists:seq(1, 11)],
    emit("ms", lists:nth(6, lists:sort(Times)) / 1.0e6),
    emit("first ms", hd(Times) / 1.0e6);
workload("W9") ->
    {ok, _} = pg:start(pg),
    Nodes = [list_to_atom(Name) || Name <- string:tokens(os:getenv("MEASURED_NODES"), " ")],
    [pong = net_adm:ping(Node) || Node <- Nodes],
    Members = wait_for_members(1000),
    Rounds = scaled(200),
    to_all(Members, {tag, 0}),
    all_acknowledged(Members, 1),
    Start = clock(),
    [to_all(Members, {tag, Round}) || Round <- lists:seq(1, Rounds)],
    all_acknowledged(Members, Rounds),
    emit_rate("msg/s", Rounds * length(Members), clock() - Start);
workload("W11") ->
    Data = binary:copy(<<"x">>, ?MIB),
    Seconds = scaled(4000) / 1000,
    stream(Data, Seconds / 8),
    First = stream(Data, Seconds / 2),
    Me = self(),
    Pinger = spawn(fun() -> pings_until_stopped(Me, []) end),
    Beside = stream(Data, Seconds),
    Pinger ! stop,
    Times = receive {times, List} -> lists:sort(List) end,
    Alone = max(First, stream(Data, Seconds / 2)),
    emit("MB/s", Beside),
    emit("share of flat-out", Beside / Alone),
    emit("p50 ms", lists:nth(max(1, length(Times) div 2), Times) / 1.0e6),
    emit("p99 ms", lists:nth(max(1, length(Times) * 99 div 100), Times) / 1.0e6);
workload("W12") ->
    Count = scaled(2000), Me = self(),
    Echo = spawn(fun echo/0),
    spawn(fun() ->
        [self() ! {stranger, Number} || Number <- lists:seq(1, 1000)],
        Start = clock(),
        ping_pong(Echo, Count),
        emit_rate("rtt/s", Count, clock() - Start),
        Me ! finished
    end),
    receive finished -> ok end;
workload("W13") ->
    Boss = self(), Watchers = 1000,
    Pids = [spawn(fun() -> watch(Boss) end) || _ <- lists:seq(1, Watchers)],
    Times = [death(Pids) || _ <- lists:seq(1, 20)],
    emit("ms", lists:nth(11, lists:sort(Times)) / 1.0e6);
workload("W13 remote") ->
    Boss = self(), Watchers = 1000,
    Target = rpc:call(?SEED, erlang, whereis, [mortal]),
    [spawn(fun() ->
        Reference = monitor(process, Target),
        Boss ! ready,
        receive {'DOWN', Reference, process, _, _} -> Boss ! saw end
    end) || _ <- lists:seq(1, Watchers)],
    [receive ready -> ok end || _ <- lists:seq(1, Watchers)],
    2 = gen_server:call({calculator, ?SEED}, {add, 1, 1}),
    Start = clock(),
    Target ! die,
    [receive saw -> ok end || _ <- lists:seq(1, Watchers)],
    emit("ms", (clock() - Start) / 1.0e6).

one_way(Count, Size) ->
    Sink = rpc:call(?SEED, erlang, whereis, [sink]),
    Warm = min(Count, 1000),
    Data = binary:copy(<<"x">>, Size),
    Send = case Size of
        0 -> fun(Number) -> send_tags(Sink, Number) end;
        _ -> fun(Number) -> send_tags(Sink, Number, Data) end
    end,
    Send(Warm),
    acknowledged(Sink, Warm),
    Start = clock(),
    Send(Count),
    acknowledged(Sink, Count),
    Taken = clock() - Start,
    emit_rate("msg/s", Count, Taken),
    Size > 0 andalso emit("MB/s", Count * Size * 1.0e3 / Taken).

send_tags(_, 0) -> ok;
send_tags(Sink, Left) -> Sink ! {tag, Left}, send_tags(Sink, Left - 1).

send_tags(_, 0, _) -> ok;
send_tags(Sink, Left, Data) -> Sink ! {tag, Left, Data}, send_tags(Sink, Left - 1, Data).

acknowledged(Sink, Count) -> Sink ! {done, self()}, receive {ack, Count} -> ok end.

ping_pong(_, 0) -> ok;
ping_pong(Echo, Left) -> Echo ! {ping, self(), Left}, receive {pong, Left} -> ping_pong(Echo, Left - 1) end.

round_trips() ->
    Echo = {echo, ?SEED},
    ping_pong(Echo, scaled(1000)),
    Times = lists:sort(timed_ping_pong(Echo, scaled(20000), [])),
    Count = length(Times),
    emit_rate("rtt/s", Count, lists:sum(Times)),
    emit("p50 us", lists:nth(Count div 2, Times) / 1.0e3),
    emit("p99 us", lists:nth(Count * 99 div 100, Times) / 1.0e3).

timed_ping_pong(_, 0, Times) -> Times;
timed_ping_pong(Echo, Left, Times) ->
    Start = clock(),
    ping_pong(Echo, 1),
    timed_ping_pong(Echo, Left - 1, [clock() - Start | Times]).

calls(_, 0) -> ok;
calls(Calculator, Left) ->
    Sum = Left + 1,
    Sum = gen_server:call(Calculator, {add, Left, 1}),
    calls(Calculator, Left - 1).

made_and_killed(_, 0) -> ok;
made_and_killed(Body, Left) ->
    {Pid, Reference} = spawn_monitor(Body),
    exit(Pid, kill),
    receive {'DOWN', Reference, process, Pid, _} -> made_and_killed(Body, Left - 1) end.

%% From a virtual machine without distribution: start it, connect, first reply.
start_to_reply(Number) ->
    Name = list_to_atom("measured_near" ++ integer_to_list(Number) ++ "@127.0.0.1"),
    Start = clock(),
    {ok, _} = net_kernel:start([Name, longnames]),
    5 = gen_server:call({calculator, ?SEED}, {add, 2, 3}),
    Taken = clock() - Start,
    ok = net_kernel:stop(),
    timer:sleep(50),
    Taken.

wait_for_members(Count) ->
    Members = pg:get_members(room),
    case length(Members) of
        Count -> Members;
        _ -> timer:sleep(20), wait_for_members(Count)
    end.

to_all(Members, Message) -> [Member ! Message || Member <- Members].

all_acknowledged(Members, Expected) ->
    to_all(Members, {done, self()}),
    [receive {ack, Expected} -> ok end || _ <- Members].

stream(Data, Seconds) ->
    Sink = rpc:call(?SEED, erlang, whereis, [sink]),
    Start = clock(),
    Sent = stream(Sink, Data, Start + trunc(Seconds * 1.0e9), 0),
    acknowledged(Sink, Sent),
    Sent * ?MIB * 1.0e3 / (clock() - Start).

stream(Sink, Data, End, Sent) ->
    case clock() < End of
        true -> Sink ! {tag, Sent, Data}, stream(Sink, Data, End, Sent + 1);
        false -> Sent
    end.

pings_until_stopped(Boss, Times) ->
    receive
        stop -> Boss ! {times, Times}
    after 0 ->
        Start = clock(),
        {echo, ?SEED} ! {ping, self(), 0},
        receive {pong, 0} -> pings_until_stopped(Boss, [clock() - Start | Times]) end
    end.

watch(Boss) ->
    receive {watch, Target} ->
        Reference = monitor(process, Target),
        Boss ! ready,
        receive {'DOWN', Reference, process, _, _} -> Boss ! saw end,
        watch(Boss)
    end.

death(Pids) ->
    Target = spawn(fun() -> receive never -> ok end end),
    [Pid ! {watch, Target} || Pid <- Pids],
    [receive ready -> ok end || _ <- Pids],
    Start = clock(),
    exit(Target, 'end'),
    [receive saw -> ok end || _ <- Pids],
    clock() - Start.
