import django.db.models.deletion
from django.db import migrations, models

import algo.models.fields


class Migration(migrations.Migration):

    dependencies = [
        ('algo', '0001_initial'),
    ]

    operations = [
        migrations.CreateModel(
            name='MarketQuote',
            fields=[
                ('market', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='streamed_quote', serialize=False, to='algo.market')),
                ('bid', algo.models.fields.AmountField()),
                ('ask', algo.models.fields.AmountField()),
                ('last', algo.models.fields.AmountField(null=True)),
                ('as_of', models.DateTimeField()),
                ('received_at', models.DateTimeField()),
            ],
            options={
                'constraints': [models.CheckConstraint(condition=models.Q(('bid__gt', 0), ('bid__lt', models.F('ask'))), name='quote_not_crossed')],
            },
        ),
    ]
