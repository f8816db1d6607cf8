from mtlbook.book.data.patients import groups_of_patients
from mtlbook.data import embedded


def test_every_patient_is_in_one_group_of_his_sex_and_age():
    data, table = groups_of_patients(), embedded.diabetes()
    assert [task.name for task in data.tasks] == [
        "sex_1_younger",
        "sex_2_younger",
        "sex_1_older",
        "sex_2_older",
    ]
    sizes = [int(own.sum()) for own in data.labelled.values()]
    assert sum(sizes) == len(table.inputs) == 442
    assert min(sizes) == 89
    median = table.inputs[:, 0].median()
    for name, own in data.labelled.items():
        age, sex = data.inputs[own, 0], data.inputs[own, 1]
        assert set(sex.tolist()) == {float(name[4])}
        assert bool((age > median).all()) == name.endswith("older")
        assert bool((age <= median).all()) == name.endswith("younger")
    total = sum(data.targets[name][own].sum() for name, own in data.labelled.items())
    assert total == table.targets["progression"].sum()
