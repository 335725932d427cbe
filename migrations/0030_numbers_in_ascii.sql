-- Nothing passes these patterns that the cast behind them refuses: what Unicode calls a digit or
-- a space is none to the cast, and one such value failed every query upon its column.
create or replace function report_number(value text) returns numeric
    language sql immutable parallel safe
    return case
        when value ~ '^ *[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,2})? *$' and length(value) < 200
        then value::numeric
    end;

create or replace function report_day(value text) returns date
    language sql stable parallel safe
    return case
        when value ~ '^(?!0000)([0-9]{4}-((0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)|([0-9][0-9](0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29)([T ]|$)'
        then left(value, 10)::date
    end;

create or replace function report_time(value text) returns timestamptz
    language sql stable parallel safe
    return case
        when value ~ '^(?!0000)([0-9]{4}-((0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)|([0-9][0-9](0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29)[T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,9})?)?(Z|[-+](0[0-9]|1[0-4]):?[0-5][0-9])$'
        then value::timestamptz
    end;

create or replace function report_id(value text) returns bigint
    language sql immutable parallel safe
    return case when value ~ '^[0-9]{1,18}$' then value::bigint end;
